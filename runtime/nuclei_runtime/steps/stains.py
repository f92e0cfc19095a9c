"""Stains: from the colours of a stained section to one grey channel in which the nuclei are bright.

Each stain is a function of a pixel's own colour. `STAINS` has one row per stain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.arrays import Image

AS_IS = "rgb"
"""The name of the colours as they are."""

STAINED = np.dtype(np.float32)
"""Type of the values of a stain."""

HAEMATOXYLIN = (1.87798274, -0.06590806, -0.60190736)
"""How much the optical densities of red, green and blue count for haematoxylin: the first column of the inverse of the
stain vectors of haematoxylin, eosin and DAB in Ruifrok and Johnston (2001, Anal Quant Cytol Histol 23)."""

DARKEST = 1 / 255
"""Smallest brightness, as a share of white: what is darker counts as this dark."""


def haematoxylin(image: Image) -> NDArray[np.float32]:
    """Return the amount of haematoxylin by colour deconvolution, which leaves out eosin.

    Brightness falls exponentially with the amount of a stain (Lambert-Beer), so the logarithms add up. The zero and the
    unit are arbitrary: that white is the largest value of the type matters only for `DARKEST`.
    """
    red, green, blue = (_density(image[..., index], weight) for index, weight in enumerate(HAEMATOXYLIN))
    return red + green + blue


def red_absorbed(image: Image) -> NDArray[np.float32]:
    """Return how much red light is missing, which both haematoxylin (blue) and DAB (brown) absorb."""
    return np.asarray(-image[..., 0].astype(np.float32))


STAINS: Mapping[str, Callable[[Image], NDArray[np.float32]]] = {"he": haematoxylin, "hdab": red_absorbed}
"""The stains: for haematoxylin and eosin, and for haematoxylin and DAB. Each function takes (H, W, 3) or (H, W, 4) and
returns (H, W)."""

STAIN_NAMES = AS_IS, *STAINS
"""How an image may be shown: with its own colours, or as one of the stains."""


def stained(image: Image, stain: str) -> NDArray[np.float32]:
    """Return how much of a stain each pixel of an image holds.

    Parameters
    ----------
    image : (H, W, 3) or (H, W, 4) ndarray
        RGB of any type; of floats, white is 1.
    stain : str
        A key of `STAINS`.

    Returns
    -------
    (H, W) ndarray of float32
        In arbitrary units.
    """
    return STAINS[stain](image)


def is_colour(image: Image) -> bool:
    """Whether an image has colours: three channels that differ somewhere."""
    if image.ndim == 2 or image.shape[2] < 3:
        return False
    red, green, blue = (image[..., channel] for channel in range(3))
    return not (np.array_equal(red, green) and np.array_equal(green, blue))


def _density(channel: Image, weight: float) -> NDArray[np.float32]:
    """Return the weighted optical density of one channel."""
    kind = channel.dtype
    if kind.kind == "u" and kind.itemsize <= 2:
        table: NDArray[np.float32] = _densities(kind.itemsize, weight)
        return np.asarray(table[channel.astype(np.uint16)])
    white = (1 << (8 * kind.itemsize - (kind.kind == "i"))) - 1 if kind.kind in "ui" else 1
    return _density_of(channel.astype(np.float64) / white, weight)


@cache
def _densities(n_bytes: int, weight: float) -> NDArray[np.float32]:
    """Return the weighted optical density of each value of an unsigned integer type."""
    n_values = 1 << (8 * n_bytes)
    return _density_of(np.arange(n_values) / (n_values - 1), weight)


def _density_of(share: NDArray[np.float64], weight: float) -> NDArray[np.float32]:
    return np.asarray(-weight * np.log(np.maximum(share, DARKEST)), dtype=np.float32)
