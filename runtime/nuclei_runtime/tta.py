"""Test-time augmentation: a network's mean answer at the image's own scale and enlarged."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.tiling import Run

MAGNIFICATION = 2
"""Whole, so that a tile that starts at a multiple of the network's stride does so enlarged: tiles equal the whole."""


def average_scales(run: Run) -> Run:
    """Return a `Run` that averages what a network gives for its input and for the same enlarged by `MAGNIFICATION`.

    A network that works at a fraction of the image's resolution takes small neighbours for one nucleus; enlarged they
    come apart, and what the two scales do not agree on evens out (Wang et al. 2019, Neurocomputing 338, on test-time
    augmentation). On the validation images it gained more than the mean over all eight orientations, which costs eight
    times as much as the network alone instead of five times; a third scale added little.
    """

    def run_both(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return (run(batch) + _reduced(run(_enlarged(batch)))) / np.float32(2)

    return run_both


def _enlarged(batch: NDArray[np.float32]) -> NDArray[np.float32]:
    """Enlarge (N, H, W, C) bilinearly; beyond its edge an image goes on as it ends."""
    from scipy import ndimage

    n, height, width, channels = batch.shape
    enlarged = np.empty((n, height * MAGNIFICATION, width * MAGNIFICATION, channels), np.float32)
    for index, channel in np.ndindex(n, channels):  # one by one: SciPy would also look for neighbours between them
        ndimage.zoom(
            batch[index, ..., channel],
            MAGNIFICATION,
            output=enlarged[index, ..., channel],
            order=1,
            mode="nearest",
            grid_mode=True,
        )
    return enlarged


def _reduced(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average the squares of (N, H, W, M) that one pixel was enlarged to."""
    n, height, width, n_maps = maps.shape
    squares = maps.reshape(n, height // MAGNIFICATION, MAGNIFICATION, width // MAGNIFICATION, MAGNIFICATION, n_maps)
    return np.asarray(squares.mean(axis=(2, 4)), dtype=np.float32)
