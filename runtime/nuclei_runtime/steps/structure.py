"""Normalises an image between two percentiles of the parts in which there is something, as a whole or by regions.

Percentiles of a whole image depend on how crowded it is: where nuclei cover less than 0.2 % of it, percentile 99.8 lies
in the background, so that their blurred rims count as nucleus; and debris or hot pixels on 0.2 % of it set the contrast
of everything else. Here they are taken from the blocks that hold structure, so that the same nuclei have the same
contrast however large the empty field around them is.

All thresholds were chosen on the validation images and on synthetic fields; tests/runtime/steps/test_structure.py
shows what they are for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.arrays import Image
from nuclei_runtime.steps.percentiles import Values, check_percentiles, normalise, ranks_of
from nuclei_runtime.steps.step import Pixels, PreprocessingStep, number

BLOCK_PX = 32
"""Side of the blocks that hold structure or not. Two to four nuclei of the training images fit in."""
SQUARE_PX = 4
"""Side of the squares whose medians and ranges are compared. A median of 16 values ignores single hot pixels."""
MIN_CONTRAST_IN_RANGES = 1.5
"""How many times the noise, measured as the range of the values in a square, the contrast of a block has to be. White
noise of any strength stays below 0.9, Poisson noise and rounding below or at 1; blocks with nuclei of the validation
images are above 2 in 99 of 100 cases."""
MIN_SHARE_OF_CONTRAST = 0.002
"""How much of the largest contrast of all blocks that of a block has to be: what a filter leaves of a background is not
structure. Dim nuclei beside saturated debris are: 130 grey levels of 65,535."""
REFERENCE_PERCENT = 90.0
MAX_SPAN_IN_CONTRASTS = 6.0
"""How many times the reference contrast, which is that percentile of the contrasts of the blocks with structure, the
limits may be apart; values above are taken for debris. The areas that the bundled model finds change by less than 5 %
while the upper limit is between 1 and 6 times that of the nuclei. On the validation images it is at most 2.1 times."""
MAX_SAMPLED_BLOCKS = 4096
"""Number of blocks from which percentiles are computed if the values cannot be counted: four megapixels."""

STRIP_PX = 8 * BLOCK_PX
"""Height of the strips in which an image in memory is read: the sorted squares take more memory than the image."""

INNER = slice(1, SQUARE_PX**2 - 1)
"""The values of a square of which percentiles are taken, in order: all but the lowest and the highest."""
MEDIAN = SQUARE_PX**2 // 2 - 1


@dataclass(frozen=True)
class Contrast:
    """What `find_contrast` finds.

    Attributes
    ----------
    low, high : float
        The intensities that become 0 and 1. Equal if the image is without structure, and then all becomes 0.
    structure : float
        Share of the blocks that hold structure, 0 to 1.
    has_outliers : bool
        Whether something much brighter than the rest was left out, such as debris or hot pixels.
    blocks : (rows, columns) ndarray of bool
        Which blocks of `BLOCK_PX` pixels a side hold structure.
    """

    low: float
    high: float
    structure: float
    has_outliers: bool
    blocks: NDArray[np.bool_] = field(compare=False)

    def __call__(self, region: NDArray[Any]) -> NDArray[np.float32]:
        """Normalise a region between the limits."""
        return normalise(region, self.low, self.high)


def find_contrast(pixels: Pixels, lower: float, upper: float) -> Contrast:
    """Find the limits of `structure_normalisation` for an image that is read region by region, twice.

    Parameters
    ----------
    pixels : Pixels
        Regions that begin at multiples of `BLOCK_PX` and end there or at the edge of the image. However it is cut, the
        result is the same.
    lower, upper : float
        In percent, 0 to 100.
    """
    contrasts = np.zeros([math.ceil(length / BLOCK_PX) for length in pixels.shape[:2]])
    for values, row, column in pixels.regions():
        if row % BLOCK_PX or column % BLOCK_PX:
            raise ValueError(f"a region begins at {row}, {column}, expected multiples of {BLOCK_PX}")
        _window(contrasts, values, row, column)[:] = _contrasts(np.sort(_squares(values), axis=-1))
    has_structure = (contrasts > 0) & (contrasts >= contrasts.max() * MIN_SHARE_OF_CONTRAST)
    n_blocks = int(has_structure.sum())
    if n_blocks == 0:
        return Contrast(0.0, 0.0, 0.0, False, has_structure)
    numbers = np.cumsum(has_structure).reshape(has_structure.shape) - 1
    is_sampled = has_structure & (numbers % math.ceil(n_blocks / MAX_SAMPLED_BLOCKS) == 0)
    found: Values | None = None
    for values, row, column in pixels.regions():
        found = found or Values(values.dtype)
        blocks = _window(has_structure if found.are_counted else is_sampled, values, row, column)
        if blocks.any():
            squares = _squares(values)
            side = BLOCK_PX // SQUARE_PX
            chosen = blocks.repeat(side, axis=0).repeat(side, axis=1)[: squares.shape[0], : squares.shape[1]]
            found.add(np.sort(squares[chosen], axis=-1)[..., INNER])
    assert found is not None  # an image has pixels
    low, high = found.limits(lower, upper)
    in_order = np.sort(contrasts[has_structure])
    (reference,) = ranks_of(n_blocks, REFERENCE_PERCENT)
    span = MAX_SPAN_IN_CONTRASTS * in_order[reference]
    if has_outliers := bool(high / 2 - low / 2 > span):
        low, high = found.up_to(low / 2 + span).limits(lower, upper)
    return Contrast(low, high, n_blocks / contrasts.size, has_outliers, has_structure)


def _window(blocks: NDArray[Any], region: NDArray[Any], row: int, column: int) -> NDArray[Any]:
    """Return what belongs to a region of an array with one element per block."""
    rows, columns = (
        slice(first // BLOCK_PX, math.ceil((first + length) / BLOCK_PX))
        for first, length in zip((row, column), region.shape[:2], strict=True)
    )
    return blocks[rows, columns]


def _squares(region: Image) -> NDArray[Any]:
    """Return the values of the squares of a region, (rows, columns, channels, values).

    Incomplete squares at the right and lower edges are completed with the mirror image.
    """
    if region.dtype.kind in "bu" and region.dtype.itemsize == 1:
        region = region.astype(np.uint16)  # NumPy sorts them eight times as fast
    colours = region.astype(region.dtype.newbyteorder("="), copy=False).reshape(*region.shape[:2], -1)
    height, width, channels = colours.shape
    missing = ((0, -height % SQUARE_PX), (0, -width % SQUARE_PX), (0, 0))
    colours = np.pad(colours, missing, mode="symmetric")
    split = colours.reshape(-(-height // SQUARE_PX), SQUARE_PX, -(-width // SQUARE_PX), SQUARE_PX, channels)
    return split.transpose(0, 2, 4, 1, 3).reshape(split.shape[0], split.shape[2], channels, SQUARE_PX**2)


def _contrasts(squares: NDArray[Any]) -> NDArray[np.float64]:
    """Return half the contrast of each block from the sorted values of its squares, or 0 if it is only noise."""
    # Halves: the difference of two float64 values may be infinite, that of their halves is not.
    lowest, median, highest = np.moveaxis(squares[..., [0, MEDIAN, -1]].astype(np.float64) / 2, -1, 0)
    medians, ranges = _by_block(median), np.sort(_by_block(highest - lowest), axis=-1)  # NaN come last
    contrast = np.fmax.reduce(medians, axis=-1) - np.fmin.reduce(medians, axis=-1)
    middle = (np.isfinite(ranges).sum(axis=-1, keepdims=True) - 1) // 2
    noise = np.take_along_axis(ranges, middle, axis=-1)[..., 0]
    above_noise: NDArray[np.float64] = np.where(contrast > MIN_CONTRAST_IN_RANGES * noise, contrast, 0.0).max(axis=-1)
    return above_noise


def _by_block(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gather (rows, columns, channels) values of squares as (rows, columns, channels, values) of blocks; NaN: none."""
    side = BLOCK_PX // SQUARE_PX
    rows, columns, channels = values.shape
    values = np.pad(values, ((0, -rows % side), (0, -columns % side), (0, 0)), constant_values=np.nan)
    split = values.reshape(values.shape[0] // side, side, values.shape[1] // side, side, channels)
    return split.transpose(0, 2, 4, 1, 3).reshape(split.shape[0], split.shape[2], channels, side**2)


def structure_normalisation(image: Image, *, lower: float, upper: float) -> NDArray[np.float32]:
    """Map the lower percentile of what has structure in an image to 0 and the upper one to 1, and clip to that range.

    The percentiles are taken over all channels of all blocks with structure, which preserves the colours. An image
    without structure, such as noise, becomes all 0. docs/card.md has the definition.

    Parameters
    ----------
    image : (H, W) or (H, W, 3) ndarray of any intensity type
    lower, upper : float
        In percent, 0 to 100.

    Returns
    -------
    float32 ndarray of the same shape, in [0, 1]
    """
    starts = range(0, image.shape[0], STRIP_PX)
    pixels = Pixels(image.shape, lambda: ((image[row : row + STRIP_PX], row, 0) for row in starts))
    return fit_structure_normalisation(pixels, lower=lower, upper=upper)(image)


def fit_structure_normalisation(pixels: Pixels, *, lower: float, upper: float) -> Contrast:
    """Return a function that does to a region what `structure_normalisation` does to the whole image."""
    return find_contrast(pixels, lower, upper)


STRUCTURE_NORMALISATION = PreprocessingStep(
    apply=structure_normalisation,
    arguments={"lower": number(0, 100), "upper": number(0, 100)},
    fit=fit_structure_normalisation,
    check=check_percentiles,
)
