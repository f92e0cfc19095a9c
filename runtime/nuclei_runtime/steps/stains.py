"""Stains: from the colours of a stained section to one grey channel in which the nuclei are bright.

Each stain is a function of a pixel's own colour. `STAINS` has one row per stain.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from nuclei_runtime.arrays import Image

AS_IS = "rgb"
"""The name of the colours as they are."""

Stained = NDArray[np.float32] | NDArray[np.float64]
"""(H, W) amounts of a stain, in arbitrary units; see `stained_type`."""

HAEMATOXYLIN = (1.87798274, -0.06590806, -0.60190736)
"""How much the optical densities of red, green and blue count for haematoxylin: the first column of the inverse of the
stain vectors of haematoxylin, eosin and DAB in Ruifrok and Johnston (2001, Anal Quant Cytol Histol 23)."""

DARKEST = 1 / 255
"""Smallest brightness, as a share of white: what is darker counts as this dark."""


_LEAST_BITS = 8


def haematoxylin(image: Image, white: float) -> Stained:
    """Return the amount of haematoxylin by colour deconvolution, which leaves out eosin.

    Brightness falls exponentially with the amount of a stain (Lambert-Beer), so the logarithms add up. The zero and the
    unit are arbitrary: white matters only for `DARKEST`.
    """
    red, green, blue = (_density(image[..., index], white, weight) for index, weight in enumerate(HAEMATOXYLIN))
    return red + green + blue


def red_absorbed(image: Image, _white: float) -> Stained:
    """Return how much red light is missing, which both haematoxylin (blue) and DAB (brown) absorb."""
    return np.asarray(-image[..., 0].astype(stained_type(image.dtype)))


STAINS: Mapping[str, Callable[[Image, float], Stained]] = {"he": haematoxylin, "hdab": red_absorbed}
"""The stains: for haematoxylin and eosin, and for haematoxylin and DAB. Each function takes (H, W, 3) or (H, W, 4) and
the white of the image, and returns (H, W)."""

STAIN_NAMES = AS_IS, *STAINS
"""How an image may be shown: with its own colours, or as one of the stains."""


def stained(image: Image, stain: str, white: float) -> Stained:
    """Return how much of a stain each pixel of an image holds.

    Parameters
    ----------
    image : (H, W, 3) or (H, W, 4) ndarray
        RGB of any type.
    stain : str
        A key of `STAINS`.
    white : float
        See `white_of`.

    Returns
    -------
    (H, W) ndarray of `stained_type`
        In arbitrary units.
    """
    return STAINS[stain](image, white)


def stained_type(dtype: DTypeLike) -> np.dtype[Any]:
    """Return the type of the values of a stain: one that tells apart all values of the image, and holds the largest."""
    return np.result_type(dtype, np.float32)


def white_of(dtype: DTypeLike, brightest: float) -> float:
    """Return the intensity that counts as white: the end of the range of the camera that an image fits into.

    Of integers it is the largest value of as few bits as hold the brightest, but at least `_LEAST_BITS`: the type says
    nothing about it, since 8 or 12 bits are often stored in 16 or in 64. Of floats, it is the next power of two.

    Parameters
    ----------
    dtype : dtype
        Of the image.
    brightest : float
        The highest intensity in it.
    """
    if np.dtype(dtype).kind in "ui":
        whole = (1 << max(int(brightest).bit_length(), _LEAST_BITS)) - 1
        return float(min(whole, np.iinfo(dtype).max))
    return 2.0 ** min(math.ceil(math.log2(brightest)), 1023) if brightest > 0 else 1.0


def is_colour(image: Image) -> bool:
    """Whether an image has colours: three channels that differ somewhere."""
    if image.ndim == 2 or image.shape[2] < 3:
        return False
    red, green, blue = (image[..., channel] for channel in range(3))
    return not (np.array_equal(red, green) and np.array_equal(green, blue))


def _density(channel: Image, white: float, weight: float) -> Stained:
    """Return the weighted optical density of one channel."""
    kind = channel.dtype
    if kind.kind == "u" and kind.itemsize <= 2:
        table: NDArray[np.float32] = _densities(kind.itemsize, white, weight)
        return np.asarray(table[channel.astype(np.uint16)])
    density = _density_of(channel.astype(np.float64) / white, weight)
    return np.asarray(density.astype(stained_type(kind), copy=False))


@cache
def _densities(n_bytes: int, white: float, weight: float) -> NDArray[np.float32]:
    """Return the weighted optical density of each value of an unsigned integer type."""
    return _density_of(np.arange(1 << (8 * n_bytes)) / white, weight).astype(np.float32)


def _density_of(share: NDArray[np.float64], weight: float) -> NDArray[np.float64]:
    return -weight * np.log(np.maximum(share, DARKEST))
