"""Test-time augmentation: a network's mean answer over the eight ways in which a picture can lie."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.tiling import Run

ORIENTATIONS = tuple((quarter_turns, flipped) for flipped in (False, True) for quarter_turns in range(4))
"""The symmetries of the square: quarter turns, then the same of the mirror image."""


def average_orientations(run: Run) -> Run:
    """Return a `Run` that turns and flips its input in all eight ways and averages what the network gives, turned back.

    A network is trained on turned and flipped crops, yet answers a little differently for each: the mean is more
    accurate, at eight times the cost (Wang et al. 2019, Neurocomputing 338, on test-time augmentation). A tile that
    starts and ends at multiples of the network's stride does so in every orientation, so tiles still equal the whole.
    """

    def run_all(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        total: NDArray[np.float32] | None = None
        for quarter_turns, flipped in ORIENTATIONS:
            seen = np.rot90(batch[:, :, ::-1] if flipped else batch, quarter_turns, axes=(1, 2))
            back = np.rot90(run(np.ascontiguousarray(seen)), -quarter_turns, axes=(1, 2))
            back = back[:, :, ::-1] if flipped else back
            total = back.copy() if total is None else total + back
        assert total is not None
        return total / np.float32(len(ORIENTATIONS))

    return run_all
