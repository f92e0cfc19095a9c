"""The scale at which a network is shown images whose nuclei are larger or smaller than those that it learned from."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.errors import ModelError
from nuclei_runtime.steps.instances import scale_method
from nuclei_runtime.steps.step import Step
from nuclei_runtime.steps.tiling import NetworkFunction, Tiling

SMALLEST_SHOWN, LARGEST_SHOWN = 0.85, 1.7
"""How large nuclei may be shown, in diameters of those of the training. One is twice the other, so that whole factors
are enough; where between 0.7 and 2 the two lie, the validation images decided, scaled: the model is as good at both."""

MIN_DIAMETER_PX, MAX_DIAMETER_PX = 4.0, 400.0
"""Smaller nuclei have too few pixels to be outlined. 400 is a nucleus of 26 micrometres where a pixel is 0.065,
as behind an objective of 100 times."""

MAX_FACTOR = 32
"""Of a model whose nuclei are of quite another size."""


@dataclass(frozen=True)
class Scale:
    """How the network is shown an image, along each side: whole factors, of which one is 1.

    Whole, so that a tile that starts at a multiple of the network's stride does so scaled: tiles equal the whole.

    Attributes
    ----------
    enlarged, reduced : int
    """

    enlarged: int = 1
    reduced: int = 1

    def __str__(self) -> str:
        return f"{self.enlarged}/{self.reduced}"

    @property
    def factor(self) -> float:
        """How much larger than the image is what the network sees."""
        return self.enlarged / self.reduced

    def tiling(self, tiling: Tiling) -> Tiling:
        """Return a network's tiling in pixels of the image: tiles as the network sees them are about its own."""
        step = tiling.multiple_of_px
        if self.enlarged > 1:
            # At an edge what is enlarged goes on as it ends: two pixels more than the network sees.
            halo_px = math.ceil((tiling.halo_px / self.enlarged + 2) / step) * step
            return Tiling(max(tiling.core_px // self.enlarged // step, 1) * step, halo_px, step)
        return Tiling(*(self.reduced * px for px in (tiling.core_px, tiling.halo_px, step)))

    def method(self, step: Step) -> Step:
        """Return a way to find nuclei with its areas in pixels of the image."""
        return scale_method(step, self.factor)

    def run(self, run: NetworkFunction) -> NetworkFunction:
        """Return a function that shows a network its input scaled and gives its answer at the input's own size."""

        def run_scaled(batch: NDArray[np.float32]) -> NDArray[np.float32]:
            answer = run(reduce(enlarge(batch, self.enlarged), self.reduced))
            return enlarge(reduce(answer, self.enlarged), self.reduced)

        return run_scaled


def scale_for(diameter_px: float, known_px: float) -> Scale:
    """Return the scale at which nuclei of a diameter are shown to a network that knows those of another.

    Parameters
    ----------
    diameter_px : float
        Median, of disks with the nuclei's areas, in pixels of the image.
    known_px : float
        The same of the training's nuclei.

    Raises
    ------
    ValueError
        The diameter is not within `MIN_DIAMETER_PX` and `MAX_DIAMETER_PX`.
    ModelError
        It is more than `MAX_FACTOR` times from what the network knows.
    """
    if not MIN_DIAMETER_PX <= diameter_px <= MAX_DIAMETER_PX:
        raise ValueError(f"diameter_px must be {MIN_DIAMETER_PX:g} to {MAX_DIAMETER_PX:g}, found {diameter_px:g}")
    ratio = diameter_px / known_px
    scale = Scale(math.ceil(max(1.0, SMALLEST_SHOWN / ratio)), math.ceil(max(1.0, ratio / LARGEST_SHOWN)))
    if max(scale.enlarged, scale.reduced) > MAX_FACTOR:
        raise ModelError(
            f"the model learned from nuclei of {known_px:g} pixels, those of {diameter_px:g} are too far from that; "
            "take a model that was trained on images like these"
        )
    return scale


def enlarge(batch: NDArray[np.float32], times: int) -> NDArray[np.float32]:
    """Enlarge (N, H, W, C) bilinearly; beyond its edge an image goes on as it ends.

    A pixel's bits depend on its neighbours alone and not, as with `scipy.ndimage.zoom`, on where it lies.
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
    """Average the squares of (N, H, W, C), of `times` pixels a side, each to a pixel."""
    if times == 1:
        return batch
    n, height, width, channels = batch.shape
    squares = batch.reshape(n, height // times, times, width // times, times, channels)
    return np.asarray(squares.mean(axis=(2, 4)), dtype=np.float32)
