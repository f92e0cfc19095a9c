"""How far an image is from those that a network was trained on: a few numbers of its colours and textures.

The numbers are of the image as the network is shown it, after the contrast is set, so that neither the exposure nor the
number of bits matters. Their distance from those of the training images is Mahalanobis's: in standard deviations, along
the directions in which the training images vary.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.json_fields import Fields

N_OCTAVES = 5
MIN_SIDE_PX = 1 << N_OCTAVES
"""A part of an image with a shorter side has no texture of the largest octave, and no numbers."""

LEAST_DETAIL = 1e-6
"""Variance below which there is none: a thousandth of the contrast, less than a step of an 8-bit image."""

MAX_NUMBER = 1e6
"""Bound of the numbers in a model card."""


@dataclass(frozen=True)
class Appearance:
    """What an image looks like, as a network is shown it: intensities from 0 to 1.

    Grey is the mean of the colours. The details are variances: how much squares of 1, 2, 4, 8 and 16 pixels differ from
    the squares twice as large that they are in, as natural logarithms.

    Attributes
    ----------
    brightness : float
        Mean grey.
    contrast, skewness : float
        Standard deviation of the grey of squares of 4 pixels, and the inverse hyperbolic sine of their skewness.
    red_green, green_blue : float
        Mean difference of two colours; 0 in grey images.
    red_green_contrast, green_blue_contrast : float
        Its standard deviation, over squares of 2 pixels.
    detail_1, detail_2, detail_4, detail_8, detail_16 : float
    """

    brightness: float
    contrast: float
    skewness: float
    red_green: float
    green_blue: float
    red_green_contrast: float
    green_blue_contrast: float
    detail_1: float
    detail_2: float
    detail_4: float
    detail_8: float
    detail_16: float


N_NUMBERS = len(fields(Appearance))


@dataclass(frozen=True)
class Familiar:
    """What the training images of a network look like.

    Attributes
    ----------
    means : Appearance
        The mean of each number over the training images.
    whitening : tuple of tuple of float
        Square matrix that turns differences from the means into `N_NUMBERS` independent numbers with a standard
        deviation of 1 over the training images.
    """

    means: Appearance
    whitening: tuple[tuple[float, ...], ...]

    def whitened(self, appearance: Appearance) -> NDArray[np.float64]:
        """Return the appearance of an image in coordinates whose origin is that of the training images.

        Returns
        -------
        (N_NUMBERS,) ndarray
            In standard deviations over the training images: the distance of two images is the length of the difference.
        """
        difference = np.subtract(astuple(appearance), astuple(self.means))
        # Summed one after the other: BLAS rounds differently on different machines, and a flag may depend on it.
        return np.asarray(np.cumsum(np.multiply(self.whitening, difference), axis=1)[:, -1])

    def distance(self, appearance: Appearance) -> float:
        """Return how far an image is from the mean of the training images, in standard deviations."""
        return float(np.sqrt(np.square(self.whitened(appearance)).sum()))


def appearance_of(parts: Iterable[NDArray[np.float32]]) -> Appearance | None:
    """Return what an image looks like.

    Parameters
    ----------
    parts : iterable of (h, w) or (h, w, 3) ndarray of float32 in [0, 1]
        What the network is shown of the image, as a whole or in parts.

    Returns
    -------
    Appearance or None
        None if no part is large enough.
    """
    sums = _Sums()
    for part in parts:
        if min(part.shape[:2]) >= MIN_SIDE_PX:
            sums.add(part)
    return sums.appearance() if sums.n_parts else None


class _Sums:
    """Means over all parts of an image, each weighted by its number of pixels."""

    def __init__(self) -> None:
        self.n_parts = 0
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def add(self, part: NDArray[np.float32]) -> None:
        self.n_parts += 1
        red, green, blue = [part] * 3 if part.ndim == 2 else np.moveaxis(part, -1, 0)
        level = (red + green + blue) / np.float32(3)
        self._add("brightness", level)
        for octave in range(N_OCTAVES + 1):
            squares = np.square(level)
            self._add(f"squares_{octave}", squares)
            if octave == 2:
                self._add("mean", level)
                self._add("cubes", squares * level)
            level = _halved(level)
        n_squares = (part.shape[0] // 2) * (part.shape[1] // 2)
        for name, one, other in (("red_green", red, green), ("green_blue", green, blue)):
            if part.ndim > 2 and (difference := one - other).any():
                difference = _halved(difference)
                self._add(name, difference)
                self._add(f"{name}_squares", np.square(difference))
            else:
                for zero in (name, f"{name}_squares"):
                    self._counts[zero] = self._counts.get(zero, 0) + n_squares

    def appearance(self) -> Appearance:
        mean, squares, cubes = self._mean("mean"), self._mean("squares_2"), self._mean("cubes")
        variance = max(squares - mean**2, LEAST_DETAIL)
        skewness = (cubes - 3 * mean * squares + 2 * mean**3) / variance**1.5
        levels = [self._mean(f"squares_{octave}") for octave in range(N_OCTAVES + 1)]
        details = [max(fine - coarse, LEAST_DETAIL) for fine, coarse in pairwise(levels)]
        return Appearance(
            self._mean("brightness"),
            variance**0.5,
            float(np.arcsinh(skewness)),
            self._mean("red_green"),
            self._mean("green_blue"),
            *(
                max(self._mean(f"{name}_squares") - self._mean(name) ** 2, 0.0) ** 0.5
                for name in ("red_green", "green_blue")
            ),
            *np.log(details).tolist(),
        )

    def _add(self, name: str, values: NDArray[np.float32]) -> None:
        self._sums[name] = self._sums.get(name, 0.0) + float(values.sum(dtype=np.float64))
        self._counts[name] = self._counts.get(name, 0) + values.size

    def _mean(self, name: str) -> float:
        return self._sums.get(name, 0.0) / self._counts.get(name, 1)


def _halved(level: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the means of squares of 2 x 2 values; an odd row or column at the end is left out."""
    level = level[: level.shape[0] // 2 * 2, : level.shape[1] // 2 * 2]
    rows = level[::2] + level[1::2]
    return (rows[:, ::2] + rows[:, 1::2]) * np.float32(0.25)


def take_familiar(reader: Fields) -> Familiar:
    """Return what the ``familiar`` of a model card describes, and note its problems."""
    means = reader.object("means")
    values = [means.number(one.name, -MAX_NUMBER, MAX_NUMBER) for one in fields(Appearance)]
    means.close()
    rows = reader.matrix("whitening", N_NUMBERS, MAX_NUMBER)
    reader.close()
    return Familiar(Appearance(*values), rows)
