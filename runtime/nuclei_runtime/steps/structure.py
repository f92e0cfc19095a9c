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
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.arrays import COLOURS, Image
from nuclei_runtime.steps.contrast import Contrast
from nuclei_runtime.steps.percentiles import Values, check_percentiles, ranks_of
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

MAX_EMPTY_SHARE = 0.15
"""How much of the contrast of the strongest channel an empty one may have: JPEG mixes the channels. In blue pictures of
quality 75 it leaves at most 0.13 in the others, and 0.04 if they are bright (33 images of fluorescence, whose brightest
parts were brought to 40 to 255); in green ones, up to 0.2 and 0.12. In 118 images of stained tissue the second channel
has at least 0.57."""

INNER = slice(1, SQUARE_PX**2 - 1)
"""The values of a square of which percentiles are taken, in order: all but the lowest and the highest."""
MEDIAN = SQUARE_PX**2 // 2 - 1


def find_contrast(pixels: Pixels, *, lower: float, upper: float) -> Contrast:
    """Find the contrast of an image that is read region by region, twice.

    The lower percentile of what has structure becomes 0, and the upper one 1. The percentiles are taken over all
    channels of all blocks with structure, which preserves the colours. If only one channel of a colour image holds a
    picture, as when fluorescence is saved in blue, it is taken alone, as if it were a grey image. An image without
    structure, such as noise, becomes all 0. docs/card.md has the definition.

    Parameters
    ----------
    pixels : Pixels
        Regions that begin at multiples of `BLOCK_PX` and end there or at the edge of the image. However it is cut, the
        result is the same.
    lower, upper : float
        In percent, 0 to 100.
    """
    contrasts, channel, brightest = _survey(pixels)
    has_structure = (contrasts > 0) & (contrasts >= contrasts.max() * MIN_SHARE_OF_CONTRAST)
    n_blocks = int(has_structure.sum())
    if n_blocks == 0:
        return Contrast(0.0, 0.0, 0.0, channel, brightest, has_structure)
    numbers = np.cumsum(has_structure).reshape(has_structure.shape) - 1
    is_sampled = has_structure & (numbers % math.ceil(n_blocks / MAX_SAMPLED_BLOCKS) == 0)
    found: Values | None = None
    for values, row, column in pixels.regions():
        found = found or Values(values.dtype)
        blocks = _window(has_structure if found.are_counted else is_sampled, values, row, column)
        if blocks.any():
            squares = _squares(values if channel is None else values[..., channel])
            side = BLOCK_PX // SQUARE_PX
            chosen = blocks.repeat(side, axis=0).repeat(side, axis=1)[: squares.shape[0], : squares.shape[1]]
            found.add(np.sort(squares[chosen], axis=-1)[..., INNER])
    assert found is not None  # an image has pixels
    low, high = found.limits(lower, upper)
    in_order = np.sort(contrasts[has_structure])
    (reference,) = ranks_of(n_blocks, REFERENCE_PERCENT)
    span = MAX_SPAN_IN_CONTRASTS * float(in_order[reference])  # may be infinite
    if high / 2 - low / 2 > span:
        low, high = found.up_to(low / 2 + span).limits(lower, upper)
    return Contrast(low, high, n_blocks / contrasts.size, channel, brightest, has_structure)


def _survey(pixels: Pixels) -> tuple[NDArray[np.float64], int | None, float]:
    """Look at all squares of an image.

    Returns
    -------
    contrasts : ndarray
        Half the contrast of each block, 0 if it is only noise.
    channel : int, optional
        The only channel that holds a picture.
    brightest : float
        The highest median of a square, in that channel or in any.
    """
    shape = [math.ceil(length / BLOCK_PX) for length in pixels.shape[:2]]
    contrasts: NDArray[np.float64] | None = None
    variation, brightest = np.zeros((1, 1)), np.full(1, -np.inf)
    for values, row, column in pixels.regions():
        if row % BLOCK_PX or column % BLOCK_PX:
            raise ValueError(f"a region begins at {row}, {column}, expected multiples of {BLOCK_PX}")
        squares = np.sort(_squares(values), axis=-1)
        # Halves: the difference of two float64 values may be infinite, that of their halves is not.
        lowest, median, highest = np.moveaxis(squares[..., [0, MEDIAN, -1]].astype(np.float64) / 2, -1, 0)
        medians = _by_block(median)
        ranges = _range_of(medians)
        if contrasts is None:
            contrasts = np.zeros((*shape, ranges.shape[-1]))
        is_noise = ranges <= MIN_CONTRAST_IN_RANGES * _noise_of(_by_block(highest - lowest))
        _window(contrasts, values, row, column)[:] = np.where(is_noise, 0.0, ranges)
        variation = np.maximum(variation, _variation(medians))
        brightest = np.maximum(brightest, 2 * median.max(axis=(0, 1)))
    assert contrasts is not None  # an image has pixels
    channel = _only_channel(variation) if len(variation) == len(COLOURS) else None
    if channel is None:
        return contrasts.max(axis=-1), None, float(brightest.max())
    return contrasts[..., channel], channel, float(brightest[channel])


def _variation(medians: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how much each channel varies within a block at most, and how much the difference of each two does.

    Parameters
    ----------
    medians : (rows, columns, C, values) ndarray
        Halves, by block.

    Returns
    -------
    (C, C) ndarray
        Channels on the diagonal, differences elsewhere; quarters.
    """
    n_channels = medians.shape[2]
    result = np.empty((n_channels, n_channels))
    for i, j in combinations_with_replacement(range(n_channels), 2):
        values = medians[:, :, i] / 2 - (medians[:, :, j] / 2 if i != j else 0)
        result[i, j] = result[j, i] = _range_of(values).max()
    return result


def _only_channel(variation: NDArray[np.float64]) -> int | None:
    """Return the channel of three that holds all there is, because each other one is empty or the same.

    If all are the same, there is nothing to do: the network sees grey.
    """
    own = variation.diagonal()
    strongest = int(own.argmax())
    limit = MAX_EMPTY_SHARE * own[strongest]
    is_empty, is_same = own <= limit, variation[strongest] <= limit
    is_same[strongest] = True
    return strongest if own[strongest] > 0 and is_empty.any() and (is_empty | is_same).all() else None


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
    if height % SQUARE_PX or width % SQUARE_PX:
        missing = ((0, -height % SQUARE_PX), (0, -width % SQUARE_PX), (0, 0))
        colours = np.pad(colours, missing, mode="symmetric")
    split = colours.reshape(-(-height // SQUARE_PX), SQUARE_PX, -(-width // SQUARE_PX), SQUARE_PX, channels)
    return split.transpose(0, 2, 4, 1, 3).reshape(split.shape[0], split.shape[2], channels, SQUARE_PX**2)


def _range_of(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the largest minus the smallest of the values along the last axis, where NaN stands for no value."""
    result: NDArray[np.float64] = np.fmax.reduce(values, axis=-1) - np.fmin.reduce(values, axis=-1)
    return result


def _noise_of(ranges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the median of the ranges of the squares of each block."""
    in_order = np.sort(ranges, axis=-1)  # NaN come last
    middle = (np.isfinite(in_order).sum(axis=-1, keepdims=True) - 1) // 2
    return np.take_along_axis(in_order, middle, axis=-1)[..., 0]


def _by_block(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gather (rows, columns, channels) values of squares as (rows, columns, channels, values) of blocks; NaN: none."""
    side = BLOCK_PX // SQUARE_PX
    rows, columns, channels = values.shape
    if rows % side or columns % side:
        values = np.pad(values, ((0, -rows % side), (0, -columns % side), (0, 0)), constant_values=np.nan)
    split = values.reshape(values.shape[0] // side, side, values.shape[1] // side, side, channels)
    return split.transpose(0, 2, 4, 1, 3).reshape(split.shape[0], split.shape[2], channels, side**2)


STRUCTURE_NORMALISATION = PreprocessingStep(
    {"lower": number(0, 100), "upper": number(0, 100)}, fit=find_contrast, check=check_percentiles
)
