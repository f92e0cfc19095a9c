"""The tables of a results folder: their columns, and the rows of one image."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.arrays import Image, Labels
from nuclei_runtime.readers.plane import Plane
from nuclei_runtime.steps.measure import Measures, Regions, axis_lengths, measure

Cell = str | int | float | None

_PIXEL_COLUMNS = (
    "label",
    "area",
    "centroid-0",
    "centroid-1",
    "bbox-0",
    "bbox-1",
    "bbox-2",
    "bbox-3",
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
"""Those of `skimage.measure.regionprops_table`: lengths in px, angles in radians, intensities in the file's units."""

_MICROMETRE_COLUMNS = (
    "area_um2",
    "centroid_um-0",
    "centroid_um-1",
    "axis_major_length_um",
    "axis_minor_length_um",
    "perimeter_um",
    "equivalent_diameter_um",
)

NUCLEI_COLUMNS = ("image", "time", "z", *_PIXEL_COLUMNS, *_MICROMETRE_COLUMNS)

_SQUARE_TOLERANCE = 1e-3
"""Pixels whose height and width differ by less are square: files round what microscopes measure."""


@dataclass(frozen=True)
class Outcome:
    """What became of one plane: a row of ``images.csv``.

    Attributes
    ----------
    image : str
        The file's path relative to the folder that was named, with ``/``.
    status : str
        ``ok`` or ``failed``.
    time, z : int, optional
        Which of the file's planes it is, counted from 0. These and what follows are None where they do not apply.
    n_nuclei, height, width : int, optional
        The latter two in pixels.
    pixel_height_um, pixel_width_um : float, optional
        In micrometres, where the file tells.
    nuclei_per_megapixel : float, optional
    overlay_scale : int, optional
        See `nuclei_runtime.writers.plane_files.PlaneFiles`.
    reason : str, optional
        Why the plane, or the whole file, failed.
    labels : str, optional
        The label image, relative to the results folder, with ``/``.
    """

    image: str
    status: str
    time: int | None = None
    z: int | None = None
    n_nuclei: int | None = None
    height: int | None = None
    width: int | None = None
    pixel_height_um: float | None = None
    pixel_width_um: float | None = None
    nuclei_per_megapixel: float | None = None
    overlay_scale: int | None = None
    reason: str | None = None
    labels: str | None = None


IMAGES_COLUMNS = tuple(field.name for field in fields(Outcome))

_FLOAT = ".8g"
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


def outcome_row(outcome: Outcome) -> list[Cell]:
    """Return the row of one plane in ``images.csv``."""
    return [_cell(value) for value in asdict(outcome).values()]


def nucleus_rows(
    name: str, image: Image, labels: Labels, origin: tuple[int, int] = (0, 0), *, plane: Plane | None = None
) -> list[list[Cell]]:
    """Measure each nucleus.

    Parameters
    ----------
    name : str
        `Outcome.image`.
    image : (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) ndarray
        Intensities are measured on the mean of its colours, without alpha.
    labels : (H, W) ndarray of int32
    origin : (int, int)
        Row and column of the plane at which `image` begins.
    plane : Plane, optional
        What `image` belongs to: says time, Z and the size of a pixel.

    Returns
    -------
    list
        A row a nucleus, in the order of `NUCLEI_COLUMNS`.
    """
    if not labels.any():
        return []
    regions = Regions.of(labels)
    table = measure(regions, labels, image)
    for column, start in zip(
        ("centroid-0", "centroid-1", "bbox-0", "bbox-1", "bbox-2", "bbox-3"), origin * 3, strict=True
    ):
        table[column] = table[column] + start
    empty = [None] * len(table["label"])
    lengths = {} if plane is None or plane.pixel_size_um is None else _micrometres(table, regions, plane.pixel_size_um)
    columns = [
        *map(_cells, table.values()),
        *(empty if (values := lengths.get(column)) is None else _cells(values) for column in _MICROMETRE_COLUMNS),
    ]
    first = [_cell(name), *((None, None) if plane is None else (plane.time, plane.z))]
    return [[*first, *row] for row in zip(*columns, strict=True)]


def _micrometres(table: Measures, regions: Regions, pixel_size_um: tuple[float, float]) -> dict[str, NDArray[Any]]:
    """Return the columns in micrometres; without the perimeter where pixels are not square.

    scikit-image counts steps along the border (Benkrid and Crookes), whose lengths are known for square pixels only.
    """
    height, width = pixel_size_um
    area = table["area"] * (height * width)
    lengths: dict[str, NDArray[Any]] = {
        "area_um2": area,
        "centroid_um-0": table["centroid-0"] * height,
        "centroid_um-1": table["centroid-1"] * width,
        "equivalent_diameter_um": np.sqrt(4 * area / np.pi),
    }
    if abs(height / width - 1) < _SQUARE_TOLERANCE:
        lengths["perimeter_um"] = table["perimeter"] * height
        axes = table["axis_major_length"] * height, table["axis_minor_length"] * height
    else:
        axes = axis_lengths(regions, pixel_size_um)
    lengths["axis_major_length_um"], lengths["axis_minor_length_um"] = axes
    return lengths


def _cells(column: NDArray[Any]) -> list[Cell]:
    """Round what is measured."""
    return [format(value, _FLOAT) for value in column.tolist()] if column.dtype.kind == "f" else column.tolist()


def _cell(value: Cell) -> Cell:
    """Round what is measured, and keep a spreadsheet from taking a file's name for a formula."""
    if isinstance(value, float):
        return format(value, _FLOAT)
    if isinstance(value, str) and value.startswith(_FORMULA_STARTS):
        return "'" + value
    return value
