"""The names of the images of a run, and of their results."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path, PurePath, PurePosixPath

from nuclei_runtime.errors import InputsError
from nuclei_runtime.readers.formats import has_folder_suffix
from nuclei_runtime.readers.plane import series_stem
from nuclei_runtime.readers.plates.field import Field


def name_images(
    root: Path, paths: Iterable[Path], chosen: Mapping[Path, Sequence[Field]]
) -> dict[str, tuple[Path, Field | None]]:
    """Return the images by name; of a plate, its fields.

    Parameters
    ----------
    root : Path
        The folder that names are relative to.
    paths : iterable of Path
    chosen : mapping of Path to fields
        Of each plate, those that are segmented.

    Raises
    ------
    InputsError
        A field has the name of another image.
    """
    images: dict[str, tuple[Path, Field | None]] = {}
    for path in paths:
        name = PurePath(os.path.relpath(path, root)).as_posix()
        plate = str(PurePosixPath(name).with_suffix("")) if has_folder_suffix(name) else name
        own = (
            {f"{plate}_{field.label}": (path, field) for field in chosen[path]}
            if path in chosen
            else {name: (path, None)}
        )
        if both := images.keys() & own.keys():
            raise InputsError(f"two images are called {min(both)}, a field of a plate and another; rename one of them")
        images |= own
    return images


def stems_of(names: Collection[str], without_suffix: Collection[str] = ()) -> dict[str, str]:
    """Return the stem of each image; `without_suffix` are names that have no suffix to leave out.

    Stems are compared without case, as some file systems compare names.
    ``a.tif`` may be a series. Then the results of its first frame are called ``a_t000``, and those of an image
    ``a_t000.tif`` must have another name.
    """
    whole = set(without_suffix)
    while True:
        stems = {name: name if name in whole else str(PurePosixPath(name).with_suffix("")) for name in names}
        uses = Counter(stem.casefold() for stem in stems.values())
        clashing = {name for name, stem in stems.items() if uses[stem.casefold()] > 1}
        for name, stem in stems.items():
            if series_stem(stem.casefold()) in uses:
                clashing.add(name)
        if clashing <= whole:
            return stems
        whole |= clashing  # then again, since the whole name of one may be the stem of another
