"""A plane -> the network's input, region by region, equal to what `preprocess` makes of the whole image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.arrays import Image, check_image
from nuclei_runtime.readers.plane import Plane
from nuclei_runtime.steps.preprocess import Step, ValueSample, as_input, colours_of, normalise

REGION_PX = 1024
"""Side of the regions in which a plane is gone through."""

PERCENTILES = "percentile_normalisation"


class PlaneInput:
    """The input that a network of any size gets of a plane.

    The limits of each normalisation are those of the whole plane, found when this is made: once through the plane
    for each such step, of which a card has one.

    Parameters
    ----------
    plane : Plane
    steps : sequence of Step
        A model card's ``preprocessing``, without resizing.

    Raises
    ------
    ImageError
        The plane cannot be read, or its values are no finite intensities.
    """

    def __init__(self, plane: Plane, steps: Sequence[Step]) -> None:
        self._plane = plane
        self._limits: list[tuple[float, float]] = []
        for step in steps:
            if step.id != PERCENTILES:
                raise ValueError(f"{step.id} cannot be done region by region")
            self._limits.append(plane_limits(plane, step.kwargs["lower"], step.kwargs["upper"], self._normalise))

    def read(self, rows: slice, columns: slice) -> NDArray[np.float32]:
        """Return the (h, w, 3) network input of a region."""
        return as_input(self._normalise(colours_of(self._plane.read(rows, columns))))

    def _normalise(self, colours: NDArray[Any]) -> NDArray[Any]:
        """Take the steps whose limits are known."""
        for low, high in self._limits:
            colours = normalise(colours, low, high)
        return colours


def plane_limits(
    plane: Plane, lower: float, upper: float, before: Callable[[Image], NDArray[Any]] = lambda colours: colours
) -> tuple[float, float]:
    """Return two percentiles of a plane's values, as `nuclei_runtime.steps.preprocess.percentile_limits` of its pixels.

    Parameters
    ----------
    plane : Plane
    lower, upper : float
        In percent, 0 to 100.
    before : callable
        What the values go through first.

    Raises
    ------
    ImageError
        The plane cannot be read, or its values are no finite intensities.
    """
    sample: ValueSample | None = None
    for rows, columns in regions(plane.shape, REGION_PX):
        pixels = plane.read(rows, columns)
        check_image(pixels)
        values = before(colours_of(pixels))
        sample = sample or ValueSample(plane.shape, values.dtype)
        sample.add(values, rows.start, columns.start)
    assert sample is not None  # a plane has pixels
    return sample.limits(lower, upper)


def regions(shape: tuple[int, ...], side: int) -> Iterator[tuple[slice, slice]]:
    """Cut a plane into squares, row by row: the last ones are what is left."""
    height, width = shape[:2]
    for row in range(0, height, side):
        for column in range(0, width, side):
            yield slice(row, min(row + side, height)), slice(column, min(column + side, width))
