"""The contrast that a package describes: the nearest to the model's own for which bioimage.io has steps."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LOWER_PERCENT, UPPER_PERCENT = 1.0, 99.9
"""The best on the validation images of the pairs that benchmarks/scale_range.py tries."""

EPSILON = 1e-6
"""Added to the divisor, as bioimage.io defines the step."""


def scale_range(image: NDArray[Any], lower: float = LOWER_PERCENT, upper: float = UPPER_PERCENT) -> NDArray[np.float32]:
    """Apply bioimage.io's steps ``scale_range``, over all axes together, and ``clip`` to 0..1.

    Parameters
    ----------
    image : (H, W) or (H, W, C) ndarray
    lower, upper : float
        In percent, 0 to 100; percentiles between two values are interpolated linearly.

    Returns
    -------
    float32 ndarray of the image's shape, in [0, 1]
    """
    values = image.astype(np.float32)
    low, high = np.percentile(values, (lower, upper)).astype(np.float32)
    scaled: NDArray[np.float32] = np.clip((values - low) / (high - low + np.float32(EPSILON)), 0, 1)
    return scaled
