"""Random textures, of which augmentation makes what was never photographed, and its contrast."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


def fibres(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return noise that is drawn out along one direction, (H, W), with mean 0 and standard deviation 1."""
    noise = rng.standard_normal(shape, dtype=np.float32)
    noise = ndimage.gaussian_filter(noise, (rng.uniform(0.7, 2.0), rng.uniform(8, 20)), mode="wrap", truncate=3)
    angle = rng.uniform(0, np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    fibres = ndimage.affine_transform(noise, turn, order=1, mode="grid-wrap")
    return np.asarray((fibres - fibres.mean()) / (fibres.std() + 1e-6), np.float32)


def waves(rng: np.random.Generator, shape: tuple[int, ...], size_px: float) -> NDArray[np.float32]:
    """Return smooth noise, (H, W), with mean 0 and standard deviation 1; its features are about `size_px` large."""
    # Coarse noise is made small and enlarged, which costs less than a wide filter.
    step = max(1, int(size_px / 2))
    coarse = rng.standard_normal([-(-n // step) + 1 for n in shape], dtype=np.float32)
    coarse = ndimage.gaussian_filter(coarse, size_px / step, mode="wrap", truncate=3)
    waves = np.repeat(np.repeat(coarse, step, axis=0), step, axis=1)[: shape[0], : shape[1]]
    if step > 1:
        waves = ndimage.uniform_filter(waves, step)
    return np.asarray((waves - waves.mean()) / (waves.std() + 1e-6), np.float32)


def clouds(rng: np.random.Generator, shape: tuple[int, ...], size_px: float) -> NDArray[np.float32]:
    """Return smooth noise, (H, W), not negative, with a mean of about 1."""
    return np.asarray(np.clip(1 + 0.5 * waves(rng, shape, size_px), 0, None), np.float32)


def stretched(picture: NDArray[np.floating]) -> NDArray[np.float32]:
    """Stretch the contrast as `nuclei_train.recipes.recipe.NORMALISATION` does a whole image's."""
    low, high = np.percentile(picture, (1.0, 99.8))
    return np.asarray(np.clip((picture - low) / max(high - low, 1e-6), 0, 1), np.float32)
