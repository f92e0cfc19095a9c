"""Saves labels that a person corrected, with their images: for `nuclei-measure`, and for training.

DIR/images/NAME.tif       the plane that was segmented
DIR/masks/NAME.tif        its labels, with the numbers that they have in napari
DIR/label_changes.csv     what was changed: one row per image
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from skimage.measure import label as connected_pieces

from nuclei_napari.errors import FolderError, LayerError
from nuclei_napari.layer_planes import LayerPlane
from nuclei_runtime import LabelChanges, Plane, compare_labels, read_image, save_labels

ORIGIN = "nuclei_edge"
"""Where the metadata of a labels layer hold its `Origin`."""

IMAGES, MASKS, CHANGES = "images", "masks", "label_changes.csv"
_COLUMNS = ("image", *(field.name for field in fields(LabelChanges)))
_NOT_IN_NAMES = re.compile(r'[<>:"/\\|?*\x00-\x1f]+')
_MAX_NAME_CHARACTERS = 100


@dataclass(frozen=True, eq=False)
class Origin:
    """Where the labels of a layer come from. It is kept in the layer's metadata.

    Attributes
    ----------
    name : str
        Of the image.
    planes : tuple of LayerPlane
    found : ndarray
        The labels before any correction, of the shape of the layer's labels.
    """

    name: str
    planes: tuple[LayerPlane, ...]
    found: NDArray[Any]


@dataclass(frozen=True)
class Saved:
    """One plane that was saved.

    Attributes
    ----------
    name : str
        Of its files, without the suffix.
    changes : LabelChanges
    in_pieces : tuple of int
        Labels that lie in several pieces: often two nuclei that were given one number by mistake.
    """

    name: str
    changes: LabelChanges
    in_pieces: tuple[int, ...]


def save_corrections(folder: Path, origin: Origin, labels: NDArray[Any]) -> list[Saved]:
    """Save every plane of a labels layer. A plane that was saved before is replaced.

    Raises
    ------
    LayerError
        The labels no longer have the shape of the image.
    FolderError
        The folder cannot be written to, or holds another image of the same name.
    ImageError
        A plane of the image cannot be read, or a label is negative.
    """
    if labels.shape != origin.found.shape:
        raise LayerError(
            f"found labels of shape {labels.shape}, expected {origin.found.shape} as they were made for {origin.name}"
        )
    saved = []
    with _writing(folder):
        for subfolder in (IMAGES, MASKS):
            (folder / subfolder).mkdir(parents=True, exist_ok=True)
        rows = _read_changes(folder / CHANGES)
        for plane in origin.planes:
            part = np.asarray(labels[plane.index])
            name = f"{_file_name(origin.name)}{plane.suffix}"
            _save_image(folder / IMAGES / f"{name}.tif", plane.plane)
            save_labels(folder / MASKS / f"{name}.tif", part, plane.plane.pixel_size_um)
            changes = compare_labels(origin.found[plane.index], part)
            rows[f"{name}.tif"] = {"image": f"{name}.tif", **asdict(changes)}
            saved.append(Saved(name, changes, _in_pieces(part)))
        _write_changes(folder / CHANGES, rows)
    return saved


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except FolderError:
        raise
    except OSError as error:
        raise FolderError(f"{error.filename or folder}: cannot be written: {error.strerror or error}") from error


def _file_name(name: str) -> str:
    """Return a name that every system accepts for a file."""
    return _NOT_IN_NAMES.sub("_", name).strip(" .")[:_MAX_NAME_CHARACTERS] or "image"


def _save_image(path: Path, plane: Plane) -> None:
    image = plane.read(slice(0, plane.shape[0]), slice(0, plane.shape[1]))
    if image.dtype == np.bool_:
        image = image.astype(np.uint8)
    elif image.dtype == np.float16:
        image = image.astype(np.float32)
    if path.exists():
        if not np.array_equal(read_image(path), image):
            raise FolderError(
                f"{path}: already holds another image; rename the image layer, segment it again, or choose another "
                "folder"
            )
        return
    size = plane.pixel_size_um
    tags: dict[str, Any] = {}
    if size is not None:
        tags = {"resolution": (1e4 / size[1], 1e4 / size[0]), "resolutionunit": "CENTIMETER"}
    part = path.with_name(path.name + ".part")
    try:
        tifffile.imwrite(
            part,
            image,
            photometric="rgb" if image.ndim == 3 else "minisblack",
            compression="zlib",
            metadata=None,
            **tags,
        )
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _read_changes(path: Path) -> dict[str, dict[str, Any]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            table = csv.DictReader(file)
            rows = {row["image"]: row for row in table} if table.fieldnames == list(_COLUMNS) else None
    except FileNotFoundError:
        return {}
    if rows is None:
        raise FolderError(f"{path}: not a table of corrections; move it away, or choose another folder")
    return dict(rows)


def _write_changes(path: Path, rows: dict[str, dict[str, Any]]) -> None:
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, _COLUMNS)
        table.writeheader()
        table.writerows(rows[name] for name in sorted(rows))
    part.replace(path)


def _in_pieces(labels: NDArray[Any]) -> tuple[int, ...]:
    pieces, n_pieces = connected_pieces(labels, background=0, return_num=True)
    numbers = np.zeros(n_pieces + 1, labels.dtype)
    numbers[pieces] = labels
    found, counts = np.unique(numbers[1:], return_counts=True)
    return tuple(int(number) for number in found[counts > 1])
