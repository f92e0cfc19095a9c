"""From what a user names on the command line to the images to segment, each with the name of its results."""

from __future__ import annotations

import glob
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nuclei_runtime.errors import ImageError, InputsError
from nuclei_runtime.faults import reading_error
from nuclei_runtime.readers.formats import (
    companion_of,
    format_in_folder,
    format_of_folder,
    has_folder_suffix,
    image_suffixes,
)
from nuclei_runtime.readers.plates.field import ALL_FIELDS, Field, PlateChoice
from nuclei_runtime.results.layout import JOINED_FILES, NUCLEI_TABLE, PROVENANCE_FILE, REPORT_FILE, RESULT_FOLDERS
from nuclei_runtime.runs.names import name_images, stems_of
from nuclei_runtime.stores.remote import RemoteFolder
from nuclei_runtime.stores.remote_files import RemoteFiles
from nuclei_runtime.wording import counted

_NO_FIELD = (
    "the index of the plate names no field; the acquisition may have been stopped, or the index may be damaged: copy "
    "the plate again"
)


@dataclass(frozen=True)
class ImageFile:
    """An image to segment: a file, a folder that is an image, or a field of a plate.

    Attributes
    ----------
    path : Path
        For a field, that of the plate.
    name : str
        Path relative to the folder that was named, with ``/``. For a field, that of the plate with the well and the
        field: ``PLATE_B02_f01``.
    stem : str
        The name of its results: `name` without its suffix, or with it if two images of a folder differ in nothing
        else. For a field, its name.
    field : Field, optional
    origin : RemoteFiles, optional
        For an image that a URL names. Its path, relative then, leads to nothing until it is fetched; see
        `nuclei_runtime.runs.remote_inputs.fetched`.
    """

    path: Path
    name: str
    stem: str
    field: Field | None = None
    origin: RemoteFiles | None = None

    @property
    def source(self) -> Path | Field:
        """What `nuclei_runtime.readers.opening.open_planes` opens."""
        return self.field or self.path

    @property
    def parts(self) -> list[Path]:
        """All that it consists of, some of which may be missing: files and folders."""
        if self.field is not None:
            return list(self.field.paths)
        folder = None if self.path.is_dir() else companion_of(self.path)
        return [self.path] if folder is None else [self.path, folder]


@dataclass(frozen=True)
class Inputs:
    """The images that were found.

    Attributes
    ----------
    root : Path or RemoteFolder
        The folder that names are relative to.
    files : tuple of ImageFile
        Sorted by folder and name, each file once.
    n_skipped : int
        Files that are no images by `format_in_folder`. Hidden files and earlier results are not counted.
    unreadable : tuple of str
        Folders that could not be listed, and plates without fields, each with the reason.
    """

    root: Path | RemoteFolder
    files: tuple[ImageFile, ...]
    n_skipped: int
    unreadable: tuple[str, ...]


def find_images(
    sources: Sequence[str | os.PathLike[str]],
    *,
    out: str | os.PathLike[str] | RemoteFolder,
    may_be_none: bool = False,
    choice: PlateChoice = ALL_FIELDS,
) -> Inputs:
    """Expand folders (with their subfolders), globs and single files.

    A glob is expanded here if the shell did not do so, as on Windows. Names are relative to the deepest folder that
    contains all sources; for a single folder, that is the folder itself.

    Parameters
    ----------
    sources : sequence of path or glob
    out : path or RemoteFolder
        The results folder of this run. If it is a path, it may be inside a source, be a source, or contain one.
    may_be_none : bool
        Whether it is acceptable that there is no image yet.
    choice : PlateChoice
        Which fields of plates to take. Other images are not affected.

    Raises
    ------
    InputsError
        A source does not exist, no image was found or none of a format that can be read, there are only plates without
        fields, a well or field that was chosen is on no plate, or the sources are on several drives.
    """
    named = [_whole(path) for source in sources for path in _expand(os.fspath(source))]
    search = _Search(out)
    for path in named:
        if _is_folder_of_images(path):
            search.add_folder(path)
        else:
            search.add_file(path)
    if not search.images and not may_be_none:
        raise InputsError(_nothing_found(sources, search))
    if search.images and not may_be_none and all(search.obstacles):
        raise InputsError(_none_readable(sources, search.obstacles))
    try:
        root = Path(os.path.commonpath([path if _is_folder_of_images(path) else path.parent for path in named]))
    except ValueError as error:
        raise InputsError("the inputs are on several drives; segment those of each drive in a separate run") from error
    paths = sorted(search.images.values(), key=lambda path: path.parts)
    fields = {path: found for path in paths if (found := _fields(path)) is not None}
    empty = [] if may_be_none else [f"{path}: {_NO_FIELD}" for path, found in fields.items() if not found]
    if empty and len(empty) == len(paths):
        raise InputsError("; ".join(empty))
    if not may_be_none:
        choice.check([field for found in fields.values() for field in found])
    images = name_images(root, paths, {path: choice.of(found) for path, found in fields.items()})
    stems = stems_of(images, {name for name, (_, field) in images.items() if field is not None})
    files = tuple(ImageFile(path, name, stems[name], field) for name, (path, field) in images.items())
    return Inputs(root, files, len(search.skipped), (*search.unreadable, *empty))


def _fields(path: Path) -> Sequence[Field] | None:
    """Return the fields of a plate; None for another image, or if the index is damaged: opening it will say so."""
    form = format_of_folder(path) if _is_folder(path) else None
    try:
        return None if form is None else form.fields(path)
    except Exception as error:  # damaged metadata raise all kinds of exceptions
        known = reading_error(error)
        if isinstance(known, ImageError):
            return None
        raise known from error


def _expand(source: str) -> list[Path]:
    if os.path.lexists(source):  # first, because a file name may contain brackets
        return [_resolved(source)]
    if not glob.has_magic(source):
        raise InputsError(f"{source}: no such file or folder; give images, folders of images, or globs")
    matches = glob.glob(source, recursive=True)  # noqa: PTH207 - Path.glob takes no absolute pattern
    if not matches:
        raise InputsError(f"{source}: no file or folder matches")
    return [_resolved(match) for match in matches]


def _whole(path: Path) -> Path:
    """Return the folder of a plate instead of its index, which people name too; any other path as it is."""
    form = None if _is_folder(path) else format_of_folder(path.parent)
    return path.parent if form is not None and form.is_index(path) else path


def _resolved(source: str | os.PathLike[str]) -> Path:
    """Follow links to folders, but not a link to a file, which is an image with a name of its own."""
    path = Path(source)
    return path.resolve() if _is_folder(path) else path.parent.resolve() / path.name


def _is_folder(path: Path) -> bool:
    return _mode_is(path, stat.S_ISDIR)


def _is_folder_of_images(path: Path) -> bool:
    """Whether this is a folder to search, and not one that is an image itself or is inside one."""
    return _is_folder(path) and format_of_folder(path) is None and not any(map(has_folder_suffix, path.parts))


def _is_special(path: Path) -> bool:
    """Whether this is a pipe or a device: reading it might never end."""
    return _mode_is(path, lambda mode: not stat.S_ISREG(mode))


def _mode_is(path: Path, kind: Callable[[int], bool]) -> bool:
    """Return whether a path is of this kind; unlike `Path.is_dir`, return False if access is denied."""
    try:
        return kind(path.stat().st_mode)
    except OSError:
        return False


class _Search:
    """Collects image files and remembers what it left out."""

    def __init__(self, out: str | os.PathLike[str] | RemoteFolder) -> None:
        self.images: dict[str, Path] = {}  # by its real path, since two links may lead to it
        self.obstacles: list[str | None] = []  # see `Format.obstacle`, for each image
        self.skipped: set[Path] = set()
        self.earlier: set[Path] = set()
        self.unreadable: list[str] = []
        self._out = None if isinstance(out, RemoteFolder) else Path(out).resolve()
        self._entered: set[Path] = set()

    def add_folder(self, folder: Path) -> None:
        if not self._enter(folder):
            return
        for here, folders, files in os.walk(folder, onerror=self._note_unreadable, followlinks=True):
            real = Path(here).resolve()
            shown = sorted(name for name in folders if name[0] != ".")
            images = {name for name in shown if format_of_folder(Path(here, name)) is not None}
            for name in sorted(images):
                self._add(Path(here, name), real)
            companions = {beside.name for name in files if (beside := companion_of(Path(here, name))) is not None}
            inner = [name for name in shown if name not in images | companions]
            folders[:] = [name for name in inner if self._enter(Path(here, name))]
            for name in files:
                if name[0] != ".":
                    self._add(Path(here, name), real)

    def add_file(self, path: Path) -> None:
        if not self._is_earlier_result(path.parent):
            self._add(path, path.parent.resolve())

    def _add(self, path: Path, real_folder: Path) -> None:
        if path.name in (*JOINED_FILES, PROVENANCE_FILE, REPORT_FILE):
            return
        is_folder = _is_folder(path)
        form = format_of_folder(path) if is_folder else None if _is_special(path) else format_in_folder(path)
        if form is None and not is_folder:
            self.skipped.add(path)
            return
        key = os.path.normcase(real_folder / path.name)
        if key not in self.images:
            self.images[key] = path
            self.obstacles.append(None if form is None else form.obstacle)

    def _enter(self, folder: Path) -> bool:
        """Return whether to search the folder: each once, so that links in a circle come to an end."""
        real = folder.resolve()
        if real in self._entered or self._is_earlier_result(folder):
            return False
        self._entered.add(real)
        return True

    def _is_earlier_result(self, folder: Path) -> bool:
        for candidate in (folder, *folder.parents):
            if candidate.name in RESULT_FOLDERS and (
                any(_mode_is(candidate.parent / name, stat.S_ISREG) for name in (NUCLEI_TABLE, PROVENANCE_FILE))
                or candidate.parent.resolve() == self._out
            ):
                self.earlier.add(candidate)
                return True
        return False

    def _note_unreadable(self, error: OSError) -> None:
        self.unreadable.append(f"{error.filename}: cannot be listed: {error.strerror}")


def _nothing_found(sources: Iterable[str | os.PathLike[str]], search: _Search) -> str:
    parts = [f"{', '.join(map(str, sources))}: no image found; looked for {', '.join(image_suffixes())}"]
    if search.skipped:
        suffixes = sorted({path.suffix.lower() or "no suffix" for path in search.skipped})
        parts.append(f"skipped {counted(len(search.skipped), 'other file')} ({', '.join(suffixes)})")
        parts.append("save images in other formats as OME-TIFF")
    if search.earlier:
        parts.append(f"skipped the earlier results in {', '.join(map(str, sorted(search.earlier)))}")
    return "; ".join([*parts, *search.unreadable])


def _none_readable(sources: Iterable[str | os.PathLike[str]], obstacles: Iterable[str | None]) -> str:
    counts = Counter(filter(None, obstacles))
    found = [f"{n} found: {obstacle}" for obstacle, n in sorted(counts.items())]
    return "; ".join([f"{', '.join(map(str, sources))}: contains no image that can be read", *found])
