"""Normalises an image between two percentiles of its values, as a whole or region by region."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from nuclei_runtime.arrays import Image
from nuclei_runtime.steps.contrast import Contrast
from nuclei_runtime.steps.step import Pixels, PreprocessingStep, number

MAX_SAMPLED_PX = 1 << 22
"""Number of pixels from which percentiles are estimated if the values cannot be counted. With four megapixels the 1st
percentile of a picture is uncertain by 0.005 percentage points."""

_N_COUNTS = 1 << 16
COUNTING_BYTES = 4 * 8 * _N_COUNTS
"""For the counts, those of a region, those up to a value, and their sum."""


def are_counted(dtype: DTypeLike) -> bool:
    """Whether values of a type are counted, so that any number of them takes the same memory."""
    return np.dtype(dtype).kind in "bui" and np.dtype(dtype).itemsize <= 2


class Values:
    """Values of which percentiles are taken: integers of up to 16 bits are counted, all others are kept.

    Parameters
    ----------
    dtype : dtype
    """

    def __init__(self, dtype: DTypeLike) -> None:
        self._dtype = np.dtype(dtype)
        self.are_counted = are_counted(dtype)
        """Whether they are counted, so that any number of them can be added."""
        self._counts = np.zeros(_N_COUNTS, np.int64)
        self._kept: list[NDArray[Any]] = []

    def add(self, values: NDArray[Any]) -> None:
        """Add the values of an array of any shape."""
        values = values.ravel()
        if not self.are_counted:
            self._kept.append(values)
            return
        if self._lift:  # bincount takes no negative values
            values = values.astype(np.int32) + self._lift
        if values.dtype == np.uint8 and values.size % 2 == 0:  # count pairs of values: it takes half the time
            pairs = np.bincount(values.view(np.uint16), minlength=_N_COUNTS).reshape(256, 256)
            self._counts[:256] += pairs.sum(axis=0) + pairs.sum(axis=1)
        else:
            self._counts += np.bincount(values, minlength=self._counts.size)

    def up_to(self, half: float) -> Values:
        """Return those of the values whose halves are at most `half`; half of any value is finite."""
        result = Values(self._dtype)
        if self.are_counted:
            n_values = max(math.floor(2 * half) + self._lift + 1, 0)
            result._counts[:n_values] = self._counts[:n_values]
        else:
            kept = np.concatenate(self._kept)
            result._kept = [kept[kept <= np.float64(2 * half)]]  # compared in float64, without a copy
        return result

    def limits(self, lower: float, upper: float) -> tuple[float, float]:
        """Return two percentiles of at least one value; see `percentile_limits`."""
        if self.are_counted:
            cumulative = np.cumsum(self._counts)
            ranks = ranks_of(int(cumulative[-1]), lower, upper)
            low, high = (int(np.searchsorted(cumulative, rank, side="right")) - self._lift for rank in ranks)
        else:
            values = np.concatenate(self._kept)
            ranks = ranks_of(values.size, lower, upper)
            values.partition(ranks)
            low, high = values[ranks].tolist()
        return float(low), float(high)

    @property
    def _lift(self) -> int:
        return 1 << 15 if self._dtype.kind == "i" else 0


class ValueSample:
    """The values of an image from which percentiles are computed, collected region by region.

    All integers of up to 16 bits are counted. Of wider integers and of floats, every s-th row and column is taken,
    starting at the first, with the smallest s that leaves at most `MAX_SAMPLED_PX` pixels; an image of up to four
    megapixels is taken completely. In both cases the result does not depend on how the image is cut into regions.

    Parameters
    ----------
    shape : tuple of int
        Shape of the image; the axes after height and width are channels.
    dtype : dtype
    """

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        self._values = Values(dtype)
        self._step = 1
        if not self._values.are_counted:
            while math.prod(math.ceil(length / self._step) for length in shape[:2]) > MAX_SAMPLED_PX:
                self._step += 1

    def add(self, region: Image, row: int = 0, column: int = 0) -> None:
        """Add the values of a region whose first pixel is at a row and a column of the image."""
        every = tuple(slice(-first % self._step, None, self._step) for first in (row, column))
        self._values.add(region[every[: region.ndim]])

    def limits(self, lower: float, upper: float) -> tuple[float, float]:
        """Return two percentiles of the sample; see `percentile_limits`."""
        return self._values.limits(lower, upper)


def ranks_of(n_values: int, *percents: float) -> list[int]:
    """Return the indices of the percentiles among the sorted values."""
    # Computed exactly from the decimal: with floats, 1.1% of 1000 values would be 12.
    return [max(math.ceil(Fraction(str(percent)) * n_values / 100) - 1, 0) for percent in percents]


def percentile_limits(image: Image, lower: float, upper: float) -> tuple[float, float]:
    """Return two percentiles of the values of an image, over all channels together.

    These are nearest-rank percentiles: the smallest value v such that at least p % of the values are <= v (type 1 of
    Hyndman and Fan 1996). Each is a value of the image, so the same picture in 8 and in 16 bits, or in grey and as RGB
    with equal channels, has equivalent limits. `ValueSample` says which values are used.

    Parameters
    ----------
    image : (H, W) or (H, W, C) ndarray
    lower, upper : float
        In percent, 0 to 100.
    """
    sample = ValueSample(image.shape, image.dtype)
    sample.add(image)
    return sample.limits(lower, upper)


def limits_of(pixels: Pixels, lower: float, upper: float) -> tuple[float, float]:
    """Return what `percentile_limits` returns, for an image that is read region by region."""
    sample: ValueSample | None = None
    for values, row, column in pixels.regions():
        sample = sample or ValueSample(pixels.shape, values.dtype)
        sample.add(values, row, column)
    assert sample is not None  # an image has pixels
    return sample.limits(lower, upper)


def fit_percentile_normalisation(pixels: Pixels, *, lower: float, upper: float) -> Contrast:
    """Return the contrast that maps the lower percentile of an image to 0 and the upper one to 1.

    The percentiles are taken over all channels of the whole image, which preserves the colours. An image without
    contrast, in which both percentiles are equal, becomes all 0.

    Parameters
    ----------
    pixels : Pixels
    lower, upper : float
        In percent, 0 to 100; see `percentile_limits`.
    """
    return Contrast(*limits_of(pixels, lower, upper))


def check_percentiles(kwargs: Mapping[str, Any]) -> str | None:
    """Return what is wrong with the percentiles of a card, or None."""
    return None if kwargs["lower"] < kwargs["upper"] else "lower must be below upper"


PERCENTILE_NORMALISATION = PreprocessingStep(
    {"lower": number(0, 100), "upper": number(0, 100)},
    fit=fit_percentile_normalisation,
    check=check_percentiles,
)
