"""Light from outside the focal plane, as in fluorescence images of tissue."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nuclei_train.batches.textures import clouds, stretched


def hazed(rng: np.random.Generator, picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a fluorescence image with nuclei far out of focus and an autofluorescent ground.

    Both add light to the image, and neither is a nucleus to outline. The nuclei out of focus are those of the image
    itself, mirrored, moved and blurred.

    Parameters
    ----------
    picture : (H, W, 3) ndarray of float32 in [0, 1]
        Grey, with bright nuclei.
    """
    grey = picture[..., 0]
    others = np.roll(grey[::-1, :: rng.choice([-1, 1])], tuple(rng.integers(0, grey.shape)), axis=(0, 1))
    blurred = ndimage.gaussian_filter(others, rng.uniform(3, 10), mode="wrap", truncate=3)
    light = grey + rng.uniform(0.2, 1.2) * blurred
    light += rng.uniform(0.0, 0.3) * clouds(rng, grey.shape, rng.uniform(3, 25))
    return np.repeat(stretched(light[..., np.newaxis]), 3, axis=-1)
