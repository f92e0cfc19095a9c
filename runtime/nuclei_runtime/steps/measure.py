"""Measures all nuclei of a label image at once, in passes over arrays.

The definitions are those of `skimage.measure.regionprops`, which measures the nuclei one by one. The tests compare the
two.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.arrays import Image, Labels
from nuclei_runtime.steps.convex import convex_areas

Measures = dict[str, NDArray[Any]]
"""One array per column, with one value per nucleus."""

_PERIMETER = np.zeros(50)
"""Contribution of a border pixel to the perimeter, indexed by 1 + 2 per adjacent border pixel + 10 per diagonal one.

Benkrid and Crookes, "Design and FPGA implementation of a perimeter estimator", 2000.
"""
_PERIMETER[[5, 7, 15, 17, 25, 27]] = 1
_PERIMETER[[21, 33]] = np.sqrt(2)
_PERIMETER[[13, 23]] = (1 + np.sqrt(2)) / 2


_MAX_EXPONENT = 480
"""Values up to 2^480 can be squared and summed up over 2^60 pixels."""


@dataclass(frozen=True)
class Regions:
    """The pixels of the nuclei of a label image, sorted by nucleus.

    Attributes
    ----------
    numbers : (n,) ndarray
        Numbers of the nuclei, ascending.
    starts : (n,) ndarray
        Index of the first pixel of each nucleus.
    sizes : (n,) ndarray
        Number of pixels of each nucleus.
    places, rows, columns : (p,) ndarray
        Flat index, row and column of each pixel; within a nucleus, row by row.
    """

    numbers: NDArray[np.intp]
    starts: NDArray[np.intp]
    sizes: NDArray[np.intp]
    places: NDArray[np.intp]
    rows: NDArray[np.intp]
    columns: NDArray[np.intp]

    @classmethod
    def of(cls, labels: Labels) -> Regions:
        """Sort the pixels of an (H, W) label image, which may have no nuclei."""
        places = np.flatnonzero(labels)
        numbers = labels.ravel()[places]
        before = int(numbers.min()) - 1 if numbers.size else 0
        numbers -= before
        # NumPy sorts 16-bit integers by radix, which is faster than by comparison.
        small = numbers.astype(np.uint16) if int(numbers.max(initial=0)) < 1 << 16 else numbers
        places = places[np.argsort(small, kind="stable")]
        counts = np.bincount(numbers)
        present = np.flatnonzero(counts)
        sizes = counts[present]
        starts = np.cumsum(sizes) - sizes
        rows, columns = np.divmod(places, labels.shape[1])
        return cls(present + before, starts, sizes, places, rows, columns)

    @cached_property
    def centres(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean row and mean column of each nucleus."""
        row, column = (self.sums(one.astype(np.float64)) / self.sizes for one in (self.rows, self.columns))
        return row, column

    def sums(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sum over each nucleus of a value of its pixels."""
        return np.asarray(np.add.reduceat(values, self.starts))

    def spread(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return, for each pixel, the value of its nucleus."""
        return np.repeat(values, self.sizes)


def measure_shapes(regions: Regions, labels: Labels) -> Measures:
    """Measure the shape and position of each nucleus, in pixels and radians, except for its relation to the edges.

    Parameters
    ----------
    regions : Regions
        The regions of `labels`.
    labels : (H, W) ndarray of int32

    Returns
    -------
    dict
        Arrays by the name of their column, with one value per nucleus in the order of their numbers.
        `nuclei_runtime.steps.columns` describes them.
    """
    area = regions.sizes.astype(np.float64)
    row, column = regions.centres
    major, minor, eccentricity, orientation = _ellipses(regions, (1.0, 1.0))
    perimeter = _perimeters(regions, labels)
    return {
        "label": regions.numbers,
        "area_px": area,
        "centroid_row_px": row,
        "centroid_column_px": column,
        "bbox_top_px": regions.rows[regions.starts],
        "bbox_left_px": np.minimum.reduceat(regions.columns, regions.starts),
        "bbox_bottom_px": regions.rows[regions.starts + regions.sizes - 1] + 1,
        "bbox_right_px": np.maximum.reduceat(regions.columns, regions.starts) + 1,
        "major_axis_px": major,
        "minor_axis_px": minor,
        "eccentricity": eccentricity,
        "orientation_rad": orientation,
        "perimeter_px": perimeter,
        "equivalent_diameter_px": np.sqrt(4 * area / np.pi),
        # A single pixel has no perimeter.
        "circularity": np.divide(4 * np.pi * area, perimeter**2, out=np.full_like(area, np.nan), where=perimeter > 0),
        "solidity": area / convex_areas(regions.starts, regions.rows, regions.columns),
    }


def measure_intensities(regions: Regions, image: Image) -> Measures:
    """Measure the intensities of each nucleus: their mean, sum, minimum, maximum and standard deviation.

    Parameters
    ----------
    regions : Regions
    image : (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) ndarray
        Intensities are the mean over its colours, without alpha.

    Returns
    -------
    dict
        Arrays by the keys of `nuclei_runtime.steps.columns.STATISTICS`, with one value per nucleus, in the units of
        the image.
    """
    colours: NDArray[Any] = image.reshape(image.shape[0] * image.shape[1], -1)[regions.places, :3]
    unit = _unit_of(colours)
    values = (colours if unit == 1 else colours / unit).mean(axis=1, dtype=np.float64)
    total = regions.sums(values)
    mean = total / regions.sizes
    measures = {
        "mean": mean,
        "sum": total,
        "min": np.minimum.reduceat(values, regions.starts),
        "max": np.maximum.reduceat(values, regions.starts),
        "sd": np.sqrt(regions.sums((values - regions.spread(mean)) ** 2) / regions.sizes),
    }
    with np.errstate(over="ignore"):  # a sum may be beyond all floats
        return {name: found * unit for name, found in measures.items()}


def _unit_of(values: NDArray[Any]) -> float:
    """Return a power of two in which values are small enough to be squared and summed up: 1 for all but huge ones."""
    if values.dtype.kind != "f" or values.dtype.itemsize < 8:
        return 1.0
    _, exponent = math.frexp(float(np.abs(values).max(initial=0)))
    return float(2.0 ** max(exponent - _MAX_EXPONENT, 0))


def areas_of(labels: Labels) -> NDArray[np.intp]:
    """Return the area of each nucleus of an (H, W) label image, in pixels and in the order of their numbers."""
    inside = labels[labels > 0]
    if not inside.size:
        return np.zeros(0, np.intp)
    counts = np.bincount(inside - inside.min())
    return counts[counts > 0]


def median_diameter_px(areas: NDArray[np.integer[Any]]) -> float | None:
    """Return the median diameter of disks with these areas, in pixels; None if there are none."""
    return float(np.median(2 * np.sqrt(areas / np.pi))) if areas.size else None


def axis_lengths(regions: Regions, spacing: tuple[float, float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the major and minor axis of each nucleus, for pixels of a given height and width."""
    major, minor, _, _ = _ellipses(regions, spacing)
    return major, minor


def _ellipses(regions: Regions, spacing: tuple[float, float]) -> tuple[NDArray[np.float64], ...]:
    """Return the axes, eccentricity and orientation of the ellipses that have the second moments of the nuclei."""
    down, right = (
        (places - regions.spread(centre)) * length
        for places, centre, length in zip((regions.rows, regions.columns), regions.centres, spacing, strict=True)
    )
    rows, columns, both = (regions.sums(product) / regions.sizes for product in (down**2, right**2, down * right))
    mean, half = (rows + columns) / 2, (rows - columns) / 2
    apart = np.hypot(half, both)
    large = mean + apart
    small = np.maximum(mean - apart, 0.0)
    small[small < 1e-12 * large] = 0.0  # a line: the rest is rounding error
    eccentricity = np.sqrt(1 - np.divide(small, large, out=np.ones_like(small), where=large > 0))
    is_round = rows == columns
    orientation = np.where(is_round, np.where(both > 0, np.pi / 4, -np.pi / 4), 0.5 * np.arctan2(2 * both, 2 * half))
    return 4 * np.sqrt(large), 4 * np.sqrt(small), eccentricity, orientation


def _perimeters(regions: Regions, labels: Labels) -> NDArray[np.float64]:
    padded = np.pad(labels, 1)
    width = padded.shape[1]
    places = (regions.rows + 1) * width + regions.columns + 1
    flat = padded.ravel()
    numbers = flat[places]
    adjacent = (-width, -1, 1, width)
    is_border = np.zeros(places.size, bool)
    for step in adjacent:
        is_border |= flat[places + step] != numbers
    border = np.zeros_like(flat)
    border[places[is_border]] = numbers[is_border]
    code = np.ones(places.size, np.intp)
    for steps, weight in ((adjacent, 2), ((-width - 1, -width + 1, width - 1, width + 1), 10)):
        for step in steps:
            code[is_border] += weight * (border[places[is_border] + step] == numbers[is_border])
    return regions.sums(np.where(is_border, _PERIMETER[code], 0.0))
