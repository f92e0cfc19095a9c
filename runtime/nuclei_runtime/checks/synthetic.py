"""Synthetic fluorescence fields with their true labels, for the demo, the model's sample and the tests.

Blurred, unevenly lit, touching ellipses with shot noise: a simple imitation of stained nuclei in a widefield
microscope. Do not use them in place of real images to measure accuracy.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.arrays import Labels


def fluorescence_field(
    seed: int, *, height: int = 256, width: int = 256, n_nuclei: int = 24
) -> tuple[NDArray[np.uint8], Labels]:
    """Draw a field of bright nuclei on a dark background.

    Parameters
    ----------
    seed : int
        The same seed gives the same field.
    height, width : int
        In pixels.
    n_nuclei : int
        Nuclei to place; a third of them touch an earlier one. Nuclei that do not fit are left out.

    Returns
    -------
    image : (height, width) ndarray of uint8
    labels : (height, width) ndarray of int32
        The true labels: 0 background, 1..N.
    """
    from scipy import ndimage

    rng = np.random.default_rng(seed)
    labels = _place_ellipses(rng, height, width, n_nuclei)
    rows, columns = np.mgrid[0:height, 0:width] / max(height, width)

    brightness = rng.uniform(0.5, 1.0, labels.max() + 1)
    brightness[0] = 0.0
    chromatin = ndimage.gaussian_filter(rng.standard_normal((height, width)), 2.0)
    light = brightness[labels] * (1 + 0.8 * chromatin)
    angle = rng.uniform(0, 2 * np.pi)
    slope = rows * np.sin(angle) + columns * np.cos(angle)
    illumination = 1 - 0.4 * (slope - slope.min()) / max(float(np.ptp(slope)), 1e-9)
    blurred = ndimage.gaussian_filter(light, 1.2) * illumination + 0.06
    photons = rng.poisson(np.clip(blurred, 0, None) * 300)
    return np.clip(photons / 300 * 180, 0, 255).astype(np.uint8), labels


def _place_ellipses(rng: np.random.Generator, height: int, width: int, n_nuclei: int) -> Labels:
    labels = np.zeros((height, width), np.int32)
    rows, columns = np.mgrid[0:height, 0:width]
    placed: list[tuple[float, float, float]] = []
    for _ in range(n_nuclei):
        for _attempt in range(20):
            major = rng.uniform(7, 12)
            minor = major * rng.uniform(0.65, 1.0)
            if placed and rng.random() < 1 / 3:  # next to an earlier one, close enough to touch
                row, column, radius = placed[rng.integers(len(placed))]
                direction = rng.uniform(0, 2 * np.pi)
                reach = 0.85 * (radius + minor)
                row, column = row + reach * np.sin(direction), column + reach * np.cos(direction)
            else:
                row, column = rng.uniform(0, height), rng.uniform(0, width)
            turn = rng.uniform(0, np.pi)
            along = (rows - row) * np.sin(turn) + (columns - column) * np.cos(turn)
            across = (rows - row) * np.cos(turn) - (columns - column) * np.sin(turn)
            ellipse = (along / major) ** 2 + (across / minor) ** 2 <= 1
            free = ellipse & (labels == 0)
            if free.sum() > 0.8 * np.pi * major * minor:  # mostly inside the field and mostly visible
                placed.append((row, column, minor))
                labels[free] = len(placed)
                break
    return labels
