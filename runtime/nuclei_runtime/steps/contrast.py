"""The contrast that an image is given: which intensities become 0 and 1, and whether that can be trusted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.arrays import Image

MAX_EXCESS = 6.0
"""How many times further from `Contrast.low` than `Contrast.high` the brightest parts may be. The areas that the
bundled model finds change by less than 5 % up to there. In 819 real images it is at most 3.3 times. The nuclei of a
sparse field that was smoothed are 15 to 100 times as far, because its noise then looks like structure, and their areas
come out 2 to 4 times too large (benchmarks/contrast.py). So is debris, which does no harm."""


@dataclass(frozen=True)
class Contrast:
    """How the intensities of an image were changed for the network.

    Attributes
    ----------
    low, high : float
        The intensities, in the units of the image or of the stain that is shown, that become 0 and 1; those outside
        are clipped. If they are equal, all becomes 0, and no nuclei can be found.
    structure : float, optional
        Share of the image that holds something beside noise, 0 to 1: the contrast is set by this part alone. None if
        the model sets it by the whole image.
    channel : int, optional
        The only channel of a colour image that holds a picture: the network sees it in grey. None if it sees the image
        as it is.
    brightest : float, optional
        The highest intensity in the image apart from single pixels: the highest median of a 4 x 4 square.
    blocks : (rows, columns) ndarray of bool, optional
        Which blocks of the image (`nuclei_runtime.steps.structure.BLOCK_PX`) hold something beside noise.
    """

    low: float
    high: float
    structure: float | None = None
    channel: int | None = None
    brightest: float | None = None
    blocks: NDArray[np.bool_] | None = field(default=None, compare=False, repr=False)

    @property
    def is_blank(self) -> bool:
        """Whether nothing in the image stands out, so that all of it becomes 0."""
        return self.structure == 0 or self.high <= self.low

    @property
    def is_exceeded(self) -> bool:
        """Whether the brightest parts are far above `high`; see `MAX_EXCESS`."""
        if self.brightest is None or self.is_blank:
            return False
        low = self.low / 2  # halves, as `normalise` compares them
        return self.brightest / 2 - low > MAX_EXCESS * (self.high / 2 - low)

    def __call__(self, region: Image) -> NDArray[np.float32]:
        """Return a region of the image with this contrast.

        Parameters
        ----------
        region : (h, w) or (h, w, 3) ndarray

        Returns
        -------
        float32 ndarray in [0, 1]
            Of the region's shape, or (h, w) if only one channel holds a picture.
        """
        return normalise(region if self.channel is None else region[..., self.channel], self.low, self.high)


def normalise(image: Image, low: float, high: float) -> NDArray[np.float32]:
    """Map one intensity to 0 and another to 1 and clip to that range; if they are equal, all values become 0.

    Returns
    -------
    float32 ndarray of the image's shape, in [0, 1]
    """
    # Use halves: the difference of two float64 values may be infinite, that of their halves is not.
    low, high = low / 2, high / 2
    if high <= low:
        return np.zeros(image.shape, np.float32)
    if image.dtype.kind == "u" and (n_values := 1 << (8 * image.dtype.itemsize)) <= min(1 << 16, image.size):
        every = np.arange(n_values, dtype=image.dtype)
        places: NDArray[Any] = image
        return _between(every, low, high).take(places)
    return _between(image, low, high)


def _between(image: NDArray[Any], low: float, high: float) -> NDArray[np.float32]:
    """Map the intensities whose halves are given to 0 and 1."""
    # Compute in float64: in float32, a 32-bit integer image would lose its low bits before the subtraction.
    scaled = image.astype(np.float64)
    scaled /= 2
    np.clip(scaled, low, high, out=scaled)
    scaled -= low
    scaled /= high - low
    return scaled.astype(np.float32)
