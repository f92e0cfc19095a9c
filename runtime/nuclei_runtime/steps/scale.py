"""Scales images whose nuclei are larger or smaller than those that the network was trained on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.arguments import check_argument, is_whole
from nuclei_runtime.errors import ArgumentError, ModelError
from nuclei_runtime.steps.instances import scale_method
from nuclei_runtime.steps.step import Step
from nuclei_runtime.steps.tiling import NetworkFunction, Tiling

SMALLEST_SHOWN, LARGEST_SHOWN = 0.85, 1.7
"""Range of the sizes at which nuclei may be shown, relative to their diameter in training. One is twice the other, so
that integer factors are enough. They were chosen between 0.7 and 2 on scaled validation images, on which the model
scores equally well at both."""

MIN_DIAMETER_PX, MAX_DIAMETER_PX = 4.0, 400.0
"""Smaller nuclei have too few pixels to be outlined. 400 px is a nucleus of 26 micrometres with pixels of 0.065
micrometres, as with a 100x objective."""

MAX_FACTOR = 32
"""Largest factor, which only a model trained on nuclei of a very different size would exceed."""


@dataclass(frozen=True)
class Scale:
    """The factors by which an image is enlarged and reduced along each side; at least one of them is 1.

    They are integers, so that a tile that starts at a multiple of the network's stride still does after scaling, and
    tiles give the same result as the whole image.

    Attributes
    ----------
    enlarged, reduced : int
        1 to `MAX_FACTOR`.

    Raises
    ------
    ArgumentError
    """

    enlarged: int = 1
    reduced: int = 1

    def __post_init__(self) -> None:
        for name in ("enlarged", "reduced"):
            factor = getattr(self, name)
            check_argument(is_whole(factor, 1, MAX_FACTOR), name, f"1 to {MAX_FACTOR}, whole", factor)
        if 1 not in (self.enlarged, self.reduced):
            raise ArgumentError(f"enlarged or reduced must be 1, found {self}")

    def __str__(self) -> str:
        return f"{self.enlarged}/{self.reduced}"

    @property
    def factor(self) -> float:
        """How many times larger than the image its scaled version is, along each side."""
        return self.enlarged / self.reduced

    def tiling(self, tiling: Tiling) -> Tiling:
        """Return the tiling of a network in pixels of the image; the scaled tiles are about as large as its own."""
        step = tiling.multiple_of_px
        if self.enlarged > 1:
            # Enlarging repeats the pixels at an edge, which affects two pixels more than the network sees.
            halo_px = math.ceil((tiling.halo_px / self.enlarged + 2) / step) * step
            return Tiling(max(tiling.core_px // self.enlarged // step, 1) * step, halo_px, step)
        return Tiling(*(self.reduced * px for px in (tiling.core_px, tiling.halo_px, step)))

    def method(self, step: Step) -> Step:
        """Return a method of finding nuclei with its areas in pixels of the image."""
        return scale_method(step, self.factor)

    def run(self, run: NetworkFunction) -> NetworkFunction:
        """Return a function that runs a network on its scaled input and returns the output at the size of the input."""

        def run_scaled(batch: NDArray[np.float32]) -> NDArray[np.float32]:
            answer = run(reduce(enlarge(batch, self.enlarged), self.reduced))
            return enlarge(reduce(answer, self.enlarged), self.reduced)

        return run_scaled


def scale_for(diameter_px: float, known_px: float) -> Scale:
    """Return the scale at which a network is shown nuclei of another diameter than those it was trained on.

    Parameters
    ----------
    diameter_px : float
        Median diameter of disks with the areas of the nuclei, in pixels of the image: `MIN_DIAMETER_PX` to
        `MAX_DIAMETER_PX`.
    known_px : float
        The same for the training nuclei.

    Raises
    ------
    ModelError
        The scale would exceed `MAX_FACTOR`.
    """
    ratio = diameter_px / known_px
    factors = math.ceil(max(1.0, SMALLEST_SHOWN / ratio)), math.ceil(max(1.0, ratio / LARGEST_SHOWN))
    if max(factors) > MAX_FACTOR:
        raise ModelError(
            f"the model was trained on nuclei of {known_px:g} pixels, which is too far from {diameter_px:g}; "
            "use a model that was trained on images like these"
        )
    return Scale(*factors)


def enlarge(batch: NDArray[np.float32], times: int) -> NDArray[np.float32]:
    """Enlarge (N, H, W, C) bilinearly, repeating the pixels at the edges.

    The bits of a pixel depend only on its neighbours and not, as with `scipy.ndimage.zoom`, on its position.
    """
    if times == 1:
        return batch
    for axis in (1, 2):
        along = (slice(None),) * axis
        padded = np.pad(batch, [(1, 1) if one == axis else (0, 0) for one in range(batch.ndim)], mode="edge")
        before, after = padded[(*along, slice(None, -2))], padded[(*along, slice(2, None))]
        enlarged = np.empty((*batch.shape[: axis + 1], times, *batch.shape[axis + 1 :]), np.float32)
        for phase in range(times):
            shift = (phase + 0.5) / times - 0.5
            share = np.float32(abs(shift))
            neighbour = before if shift < 0 else after
            phase_of: tuple[slice | int, ...] = (*along, slice(None), phase)
            enlarged[phase_of] = (1 - share) * batch + share * neighbour
        batch = enlarged.reshape(*batch.shape[:axis], -1, *batch.shape[axis + 1 :])
    return batch


def reduce(batch: NDArray[np.float32], times: int) -> NDArray[np.float32]:
    """Reduce (N, H, W, C) by averaging squares of `times` pixels a side to one pixel each."""
    if times == 1:
        return batch
    n, height, width, channels = batch.shape
    squares = batch.reshape(n, height // times, times, width // times, times, channels)
    return np.asarray(squares.mean(axis=(2, 4)), dtype=np.float32)
