"""The tables of a results folder: columns, the rows of one image, CSV files that grow row by row."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from skimage.measure import regionprops_table

from nuclei_runtime.instances import Labels
from nuclei_runtime.reading import Image

Cell = str | int | float | None

PROPERTIES = (
    "label",
    "area",
    "centroid",
    "bbox",
    "axis_major_length",
    "axis_minor_length",
    "eccentricity",
    "orientation",
    "perimeter",
    "equivalent_diameter_area",
    "intensity_mean",
    "intensity_max",
    "intensity_min",
)
"""Of `skimage.measure.regionprops_table`: lengths in px, angles in radians, intensities in the file's units."""

_AXIS_OF = {"centroid-0": 0, "centroid-1": 1, "bbox-0": 0, "bbox-1": 1, "bbox-2": 0, "bbox-3": 1}
"""The columns that say where in the image a nucleus lies, and along which axis."""

NUCLEI_COLUMNS = (
    "image",
    *regionprops_table(np.zeros((1, 1), np.int32), np.zeros((1, 1)), properties=PROPERTIES),
)


@dataclass(frozen=True)
class Outcome:
    """What became of one image: a row of ``images.csv``.

    Attributes
    ----------
    image : str
        Its path relative to the folder that was named, with ``/``.
    status : str
        ``ok`` or ``failed``.
    n_nuclei, height, width : int, optional
        The latter two in pixels. These and what follows are None where they do not apply.
    nuclei_per_megapixel : float, optional
    reason : str, optional
        Why the image failed.
    labels : str, optional
        The label image, relative to the results folder, with ``/``.
    """

    image: str
    status: str
    n_nuclei: int | None = None
    height: int | None = None
    width: int | None = None
    nuclei_per_megapixel: float | None = None
    reason: str | None = None
    labels: str | None = None


IMAGES_COLUMNS = tuple(field.name for field in fields(Outcome))

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def outcome_row(outcome: Outcome) -> list[Cell]:
    """Return the row of one image in ``images.csv``."""
    return [_cell(value) for value in asdict(outcome).values()]


def nucleus_rows(name: str, image: Image, labels: Labels, origin: tuple[int, int] = (0, 0)) -> list[list[Cell]]:
    """Measure each nucleus.

    Parameters
    ----------
    name : str
        `Outcome.image`.
    image : (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) ndarray
        Intensities are measured on the mean of its colours, without alpha.
    labels : (H, W) ndarray of int32
    origin : (int, int)
        Row and column in the whole image of the first pixel, where `image` is a window of it.

    Returns
    -------
    list
        A row a nucleus, in the order of `NUCLEI_COLUMNS`.
    """
    present = labels[labels > 0]
    if not present.size:
        return []
    # From 1 on: scikit-image goes through all numbers up to the largest, and a window's are far from the first.
    before = int(present.min()) - 1
    intensity = image.astype(np.float64) if image.ndim == 2 else image[..., :3].mean(axis=-1, dtype=np.float64)
    table = regionprops_table(np.where(labels > 0, labels - before, 0), intensity, properties=PROPERTIES)
    for column, shift in (("label", before), *((name, origin[axis]) for name, axis in _AXIS_OF.items())):
        table[column] = table[column] + shift
    first = _cell(name)
    return [[first, *map(_cell, row)] for row in zip(*(column.tolist() for column in table.values()), strict=True)]


def _cell(value: Cell) -> Cell:
    """Round what is measured, and keep a spreadsheet from taking a file's name for a formula."""
    if isinstance(value, float):
        return format(value, ".8g")
    if isinstance(value, str) and value.startswith(_FORMULA_STARTS):
        return "'" + value
    return value


class Table:
    """A CSV file (RFC 4180, UTF-8) to which rows are added; each addition is in the file when the call returns.

    Parameters
    ----------
    path : Path
        It must not exist: two runs cannot write to one table.
    columns : sequence of str
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path = path
        # A file's name may hold bytes that are no text: such an image fails, and is named with them escaped.
        self._file = path.open("x", encoding="utf-8", errors="backslashreplace", newline="")
        self.add([columns])

    def add(self, rows: Iterable[Sequence[Cell]]) -> None:
        """Add rows."""
        csv.writer(self._file).writerows(rows)
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
