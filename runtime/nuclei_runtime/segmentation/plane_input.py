"""The network's input for a plane, region by region: the same values that `preprocess` gives for the whole image."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.arrays import Image, check_image
from nuclei_runtime.readers.plane import Plane
from nuclei_runtime.steps.contrast import Contrast
from nuclei_runtime.steps.percentiles import COUNTING_BYTES, are_counted, limits_of
from nuclei_runtime.steps.preprocess import STEPS, as_input, colours_of, contrast_of
from nuclei_runtime.steps.stains import AS_IS, is_colour, stained, stained_type, white_of
from nuclei_runtime.steps.step import Pixels, Step
from nuclei_runtime.steps.structure import BLOCK_PX, MAX_SAMPLED_BLOCKS

REGION_PX = 1024
"""Side of the regions in which a plane is read for its percentiles: a multiple of `structure.BLOCK_PX`."""

Applied = Callable[[NDArray[Any]], NDArray[np.float32]]
"""A step that is fitted to a plane, for its regions."""

Region = tuple[slice, slice]
"""Rows and columns of a plane."""


class PlaneInput:
    """The input that a network of any size gets from a plane.

    The constructor fits each step to the whole plane: a normalisation reads the plane, once or twice, for its limits.

    Parameters
    ----------
    plane : Plane
    steps : sequence of Step
        A model card's ``preprocessing``, without resizing.

    Raises
    ------
    ImageError
        The plane cannot be read, or its values are not finite intensities.
    """

    def __init__(self, plane: Plane, steps: Sequence[Step]) -> None:
        self._plane = plane
        self.shape = (plane.shape[0], plane.shape[1])
        self._applied: list[Applied] = []
        for step in steps:
            if STEPS[step.id].fit is None:
                raise ValueError(f"{step.id} cannot be applied region by region")
            self._applied.append(STEPS[step.id].of(_pixels_of(plane, self._apply), step.kwargs))

    @property
    def contrast(self) -> Contrast | None:
        """The contrast that the plane is given; None if the model's card does not set it first."""
        return contrast_of(self._applied)

    @property
    def applied(self) -> tuple[Applied, ...]:
        """The fitted steps, without what only this process needs: they can be pickled, and are small."""
        return tuple(replace(one, blocks=None) if isinstance(one, Contrast) else one for one in self._applied)

    def pixels(self, rows: slice, columns: slice) -> Image:
        """Return the pixels of a region, which `prepared` turns into the network's input."""
        return self._plane.read(rows, columns)

    def read(self, rows: slice, columns: slice) -> NDArray[np.float32]:
        """Return the (h, w, 3) network input of a region."""
        return as_input(self.shown(rows, columns))

    def shown(self, rows: slice, columns: slice) -> NDArray[np.float32]:
        """Return what the network is shown of a region: (h, w) if it is grey, otherwise (h, w, 3)."""
        return self._apply(colours_of(self.pixels(rows, columns)))

    def _apply(self, colours: NDArray[Any]) -> NDArray[Any]:
        """Apply the steps that are fitted so far."""
        return _apply(colours, self._applied)


def prepared(pixels: Image, applied: Sequence[Applied]) -> NDArray[np.float32]:
    """Return the (h, w, 3) network input for pixels of a plane, with the steps that are fitted to it."""
    return as_input(_apply(colours_of(pixels), applied))


def _apply(colours: NDArray[Any], applied: Sequence[Applied]) -> NDArray[Any]:
    for apply in applied:
        colours = apply(colours)
    return colours


def contrast_bytes(plane: Plane) -> int:
    """Return the most memory that fitting the contrast to a plane, or to a stain of it, takes beside reading it."""
    of_plane = _fitting_bytes(plane.shape, np.dtype(plane.dtype))
    if len(plane.shape) == 2:
        return of_plane
    return max(of_plane, _fitting_bytes(plane.shape[:2], stained_type(plane.dtype)))


def _fitting_bytes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Return the sum of the arrays that `nuclei_runtime.steps.structure.find_contrast` has at once.

    For each value of a region: the pixels, two copies and a float64. For each value that is kept: itself, two copies
    and a boolean, while the last region is still there. For each block: a float64 a channel and four other numbers.
    """
    n_channels, itemsize = math.prod(shape[2:]), max(dtype.itemsize, 2)  # bytes are sorted as 16 bits
    n_blocks = math.prod(-(-length // BLOCK_PX) for length in shape[:2])
    n_kept = 0 if are_counted(dtype) else min(n_blocks, MAX_SAMPLED_BLOCKS) * BLOCK_PX**2 * n_channels
    n_read = math.prod(min(length, REGION_PX) for length in shape[:2]) * n_channels
    reading = n_read * (3 * itemsize + 8) + n_kept * itemsize
    finding = n_read * 2 * itemsize + n_kept * (3 * itemsize + 1)
    return COUNTING_BYTES + max(reading, finding) + n_blocks * 8 * (n_channels + 4)


def input_in(plane: Plane, steps: Sequence[Step], stain: str) -> PlaneInput:
    """Return the network's input for a stain of a plane, or for its own colours if it cannot be stained."""
    as_it_is = PlaneInput(plane, steps)
    if stain == AS_IS or not may_be_stained(plane, as_it_is.contrast):
        return as_it_is
    return PlaneInput(shown_plane(plane, stain, as_it_is.contrast), steps)


def may_be_stained(plane: Plane, contrast: Contrast | None) -> bool:
    """Return whether a plane has colours, and so stains: not if only one of its channels holds a picture."""
    return (contrast is None or contrast.channel is None) and has_colours(plane)


def shown_plane(plane: Plane, stain: str, contrast: Contrast | None) -> Plane:
    """Return a plane as the network is shown it.

    Parameters
    ----------
    plane : Plane
        One that may be stained, unless it is shown as it is.
    stain : str
        See `nuclei_runtime.steps.view.View`.
    contrast : Contrast, optional
        Of the plane as it is. If it does not say how bright the plane is, a stain reads the plane once for that.
    """
    if stain == AS_IS:
        return plane
    known = None if contrast is None else contrast.brightest
    white = white_of(plane.dtype, plane_limits(plane, 0, 100)[1] if known is None else known)

    def read(rows: slice, columns: slice) -> Image:
        return stained(plane.read(rows, columns), stain, white)

    return replace(plane, shape=plane.shape[:2], dtype=stained_type(plane.dtype), read=read)


def as_grey(plane: Plane) -> Plane:
    """Return a plane with one channel if its three are equal and it is not large; any other as it is.

    The network's input is the same, for a third of the work. To find out, the plane is read once more, which would take
    long if it is large.
    """
    if plane.is_large or len(plane.shape) == 2 or has_colours(plane):
        return plane
    return replace(plane, shape=plane.shape[:2], read=lambda rows, columns: plane.read(rows, columns)[..., 0])


def has_colours(plane: Plane) -> bool:
    """Return whether a plane has colours, and is not a grey image with three equal channels."""
    if len(plane.shape) == 2:
        return False
    return any(is_colour(plane.read(rows, columns)) for rows, columns in _regions_of(plane))


def plane_limits(plane: Plane, lower: float, upper: float) -> tuple[float, float]:
    """Return two percentiles of a plane's values: those that `percentile_limits` gives for all of its pixels.

    Parameters
    ----------
    plane : Plane
    lower, upper : float
        In percent, 0 to 100.

    Raises
    ------
    ImageError
        The plane cannot be read, or its values are not finite intensities.
    """
    return limits_of(_pixels_of(plane, lambda colours: colours), lower, upper)


def _pixels_of(plane: Plane, before: Callable[[Image], NDArray[Any]]) -> Pixels:
    """Return the values of a plane, region by region, after `before` is applied to them."""

    def values() -> Iterator[tuple[NDArray[Any], int, int]]:
        for rows, columns in _regions_of(plane):
            pixels = plane.read(rows, columns)
            check_image(pixels)
            yield before(colours_of(pixels)), rows.start, columns.start

    return Pixels(plane.shape, values)


def _regions_of(plane: Plane) -> Iterator[Region]:
    """Yield the regions of a plane that show more than glass, which sets neither its contrast nor its view."""
    for rows, columns in regions(plane.shape, REGION_PX):
        if not plane.shows_glass(rows, columns):
            yield rows, columns


def regions(shape: tuple[int, ...], side: int) -> Iterator[Region]:
    """Yield the squares of a plane, row by row. Those at the right and lower edges may be smaller."""
    height, width = shape[:2]
    for row in range(0, height, side):
        for column in range(0, width, side):
            yield slice(row, min(row + side, height)), slice(column, min(column + side, width))


def lies_in(region: Region, other: Region) -> bool:
    """Whether a region lies in another one."""
    return all(outer.start <= one.start and one.stop <= outer.stop for one, outer in zip(region, other, strict=True))


def moved(span: slice, by: int) -> slice:
    """Return rows or columns further down or right."""
    return slice(span.start + by, span.stop + by)
