"""The table of a plane's nuclei: one row per nucleus, in pixels and in micrometres."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.arrays import Image, Labels
from nuclei_runtime.readers.plane import Plane
from nuclei_runtime.segmentation.blocks import Block
from nuclei_runtime.steps.measure import Measures, Regions, axis_lengths, measure
from nuclei_runtime.writers.csv_cells import Cell, csv_cell
from nuclei_runtime.writers.plane_writer import PlaneWriter

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
"""As `skimage.measure.regionprops_table` defines them: lengths in px, angles in radians, intensities as in the file."""

_MICROMETRE_COLUMNS = (
    "area_um2",
    "centroid_um-0",
    "centroid_um-1",
    "axis_major_length_um",
    "axis_minor_length_um",
    "perimeter_um",
    "equivalent_diameter_um",
)

NUCLEI_COLUMNS = ("image", "scene", "time", "z", *_PIXEL_COLUMNS, *_MICROMETRE_COLUMNS)

_SQUARE_TOLERANCE = 1e-3
"""Pixels whose height and width differ by less count as square, because files store rounded pixel sizes."""


class NucleiCsvWriter(PlaneWriter):
    """Writes a CSV table with the header `NUCLEI_COLUMNS` and one row per nucleus, in the order of the labels."""

    def __init__(self, path: Path, image: str, plane: Plane) -> None:
        super().__init__(path, image, plane)
        self._file = path.open("w", encoding="utf-8", newline="")
        self._rows = csv.writer(self._file)
        self._rows.writerow(NUCLEI_COLUMNS)

    def write_block(self, block: Block) -> None:
        """Measure the nuclei of a block."""
        origin = block.rows.start, block.columns.start
        self._rows.writerows(nucleus_rows(self.image, block.image, block.labels, plane=self.plane, origin=origin))

    def close(self) -> None:
        """Close the table."""
        self._file.close()


def join_nuclei_csv(tables: Iterable[Path], joined: Path) -> None:
    """Join the tables of an image file's planes, which have the same header."""
    with joined.open("wb") as file:
        for index, table in enumerate(tables):
            with table.open("rb") as rows:
                header = rows.readline()
                file.write(header if index == 0 else b"")
                shutil.copyfileobj(rows, file)


def nucleus_rows(
    name: str, image: Image, labels: Labels, origin: tuple[int, int] = (0, 0), *, plane: Plane | None = None
) -> list[list[Cell]]:
    """Measure each nucleus.

    Parameters
    ----------
    name : str
        The image file's name, as results show it.
    image : (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) ndarray
        Intensities are those of the mean of its colours, without alpha.
    labels : (H, W) ndarray of int32
    origin : (int, int)
        Row and column of the plane where `image` begins.
    plane : Plane, optional
        The plane that `image` belongs to: gives scene, time, Z and the pixel size.

    Returns
    -------
    list
        One row per nucleus, with the cells in the order of `NUCLEI_COLUMNS`.
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
    where = (None, None, None) if plane is None else (csv_cell(plane.scene_label), plane.time, plane.z)
    first = [csv_cell(name), *where]
    return [[*first, *row] for row in zip(*columns, strict=True)]


def _micrometres(table: Measures, regions: Regions, pixel_size_um: tuple[float, float]) -> dict[str, NDArray[Any]]:
    """Return the columns in micrometres, without the perimeter if pixels are not square.

    scikit-image adds up steps along the border (Benkrid and Crookes), whose lengths are known for square pixels only.
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
    return [csv_cell(value) for value in column.tolist()]
