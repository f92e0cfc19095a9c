"""Images that URLs name: from the listing of a store to local copies, one image at a time.

Formats want files on a disk, and what is an image, a plate or an earlier result is decided by `find_images` on a disk
as well. So the listing of the store becomes a local tree of empty files, in which only the small ones that decide about
others have their contents. An image is fetched when a worker begins with it, and its copy is removed after it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import takewhile
from pathlib import Path, PurePosixPath

from nuclei_runtime.errors import InputsError
from nuclei_runtime.readers.formats import (
    format_in_folder,
    has_folder_suffix,
    is_index_file,
    is_told_by_name,
    n_first_bytes,
    needs_others,
)
from nuclei_runtime.readers.plates.field import ALL_FIELDS, PlateChoice
from nuclei_runtime.results.mirror import reading
from nuclei_runtime.runs.inputs import ImageFile, Inputs, find_images
from nuclei_runtime.stores.listed import Listed, version_of
from nuclei_runtime.stores.remote import RemoteFolder
from nuclei_runtime.stores.remote_files import RemoteFiles
from nuclei_runtime.stores.scratch import scratch_folder
from nuclei_runtime.stores.url import is_file_name, is_url

_MAGIC = frozenset("*[")


def find_remote_images(sources: Sequence[str], *, out: Path | RemoteFolder, choice: PlateChoice = ALL_FIELDS) -> Inputs:
    """Do what `find_images` does, for URLs of one store.

    Raises
    ------
    InputsError
        See `find_images`; or the sources are in several stores, or paths are among them.
    RuntimeEnvironmentError
        The store cannot be listed.
    """
    if not all(map(is_url, sources)):
        raise InputsError("some inputs are paths and others are URLs; segment them in separate runs")
    base, names = _common_folder([RemoteFolder(source).url for source in sources])
    listing: dict[str, Listed] = {}
    for name in names:
        found = _listed(base, name)
        if not found:
            raise InputsError(f"{base.at(name)}: no such object or folder; check the name, or give a folder of images")
        listing |= found
    folders = {parent.as_posix() for name in listing for parent in PurePosixPath(name).parents}
    # An object may be called like a folder. An empty one only marks the folder.
    refused = sorted(name for name in listing if not is_file_name(name) or (name in folders and listing[name].size))
    listing = {name: one for name, one in listing.items() if is_file_name(name) and name not in folders}
    with scratch_folder() as scratch:
        tree = scratch.resolve()
        _grow(tree, base, {name: one.size for name, one in listing.items()})
        sorted_names = sorted(listing)
        inside = base.name_of(out) if isinstance(out, RemoteFolder) else None
        try:
            inputs = find_images(
                [tree / name for name in names], out=tree / (".elsewhere" if inside is None else inside), choice=choice
            )
        except InputsError as error:
            raise InputsError(str(error).replace(str(tree), base.url)) from None
        files = tuple(_from_store(file, tree, base, listing, sorted_names) for file in inputs.files)
        root = Path(str(inputs.root)).relative_to(tree).as_posix()
        unreadable = [note.replace(str(tree), base.url) for note in inputs.unreadable]
    notes = (
        f"{base.at(name)}: has a name that is not valid for a file next to the others; rename it" for name in refused
    )
    root_folder = base if root == "." else base.folder(root)
    return replace(inputs, root=root_folder, files=files, unreadable=(*unreadable, *notes))


@contextmanager
def fetched(file: ImageFile) -> Iterator[ImageFile]:
    """Yield an image whose files are on this machine; those that a URL names are removed at the end.

    Raises
    ------
    OSError
        They cannot be fetched.
    """
    if file.origin is None:
        yield file
        return
    with scratch_folder() as here:
        file.origin.fetch(here)
        field = None if file.field is None else replace(file.field, plate=here / file.field.plate)
        yield replace(file, path=here / file.path, field=field, origin=None)


def _common_folder(urls: Sequence[str]) -> tuple[RemoteFolder, list[str]]:
    """Return the deepest folder that contains all sources, and their names relative to it; patterns stay in the names.

    Raises
    ------
    InputsError
        They are in several stores.
    """
    split = [(scheme, rest.split("/")) for scheme, _, rest in (url.partition("://") for url in urls)]
    if len({(scheme, parts[0]) for scheme, parts in split}) > 1:
        raise InputsError("the inputs are in several stores or buckets; segment those of each in a separate run")
    fixed = [list(takewhile(lambda part: not _MAGIC & set(part), parts[1:-1])) for _, parts in split]
    common = [group[0] for group in takewhile(lambda group: len(set(group)) == 1, zip(*fixed, strict=False))]
    scheme, parts = split[0]
    base = RemoteFolder(f"{scheme}://{'/'.join([parts[0], *common])}")
    return base, ["/".join(parts[1 + len(common) :]) for _, parts in split]


def _listed(base: RemoteFolder, name: str) -> Mapping[str, Listed]:
    """Return what a source may mean: all below it, or below the folder in which its pattern begins."""
    with reading(base):
        try:
            found = base.listing(name)
            if not found and _MAGIC & set(name):
                fixed = takewhile(lambda part: not _MAGIC & set(part), name.split("/"))
                return base.listing("/".join(fixed))
            if list(found) == [name] and needs_others(name):
                parent = PurePosixPath(name).parent.as_posix()
                return base.listing("" if parent == "." else parent)
        except FileNotFoundError:  # the bucket
            return {}
    return found


def _grow(tree: Path, base: RemoteFolder, sizes: Mapping[str, int | None]) -> None:
    """Make the local tree: empty files, those that decide about others, and the first bytes of those that need it."""
    indexes = {name: size for name, size in sizes.items() if is_index_file(name)}
    # What is inside a folder that is one image need not be there.
    others = [
        name
        for name in sizes.keys() - indexes.keys()
        if not any(map(has_folder_suffix, PurePosixPath(name).parent.parts))
    ]
    with reading(base):
        base.fetch(indexes, tree)
        starts = base.read_starts([name for name in others if not is_told_by_name(name)], n_first_bytes())
    made: set[Path] = set()
    for name in others:
        path = tree / name
        if path.parent not in made:
            path.parent.mkdir(parents=True, exist_ok=True)
            made.add(path.parent)
        path.write_bytes(starts.get(name, b""))


def _from_store(
    file: ImageFile, tree: Path, base: RemoteFolder, listing: Mapping[str, Listed], sorted_names: Sequence[str]
) -> ImageFile:
    """Return an image of the local tree as one in the store."""
    form = format_in_folder(file.path) if file.path.is_file() else None
    # Its gigabytes would be fetched for nothing.
    is_refused = form is not None and form.obstacle is not None and file.path.suffix.lower() in form.suffixes
    parts = [part.relative_to(tree).as_posix() for part in ([] if is_refused else file.parts)]
    own = tuple(
        (name, listing[name].size) if name in listing else (f"{name}/", None)
        for name in parts
        if (tree / name).exists()
    )
    names = [name for name, _ in own if name in listing]
    for folder in (name.rstrip("/") for name, _ in own if name.endswith("/")):
        first, stop = (bisect_left(sorted_names, f"{folder}{end}") for end in "/0")  # in ASCII, 0 comes after /
        names += sorted_names[first:stop]
    described = "" if file.field is None else file.field.described
    version = version_of({name: listing[name] for name in names}, described)
    origin = RemoteFiles(base, own, described, version)
    field = None if file.field is None else replace(file.field, plate=file.field.plate.relative_to(tree))
    return replace(file, path=file.path.relative_to(tree), field=field, origin=origin)
