"""Image and labels -> a picture with the nuclei outlined, for a person to judge them by."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import find_boundaries

from nuclei_runtime.instances import Labels
from nuclei_runtime.preprocess import percentile_normalisation
from nuclei_runtime.reading import Image

LOWER_PERCENT, UPPER_PERCENT = 1.0, 99.8
"""Contrast limits: neither a few hot pixels nor a 12-bit camera in a 16-bit file may leave the picture black."""

OUTLINE_RGB = (255, 230, 0)
RIM_BRIGHTNESS = 0.35
"""Yellow is seen on a dark field and on purple stain; a darkened rim makes it seen on a white field too. Chosen
by eye among yellow, green, cyan and magenta, with and without a rim, on fluorescence, H&E, purple stains on
white and on purple, and bright field."""


def stretch_contrast(image: Image) -> NDArray[np.float32]:
    """Return an image as people can see it: many fluorescence images are black to the eye as they are stored.

    Parameters
    ----------
    image : (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) ndarray
        An alpha channel is dropped.

    Returns
    -------
    (H, W, 3) ndarray of float32 in [0, 1]
        Not to be written to: grey is one channel seen three times.
    """
    colours = image[..., np.newaxis] if image.ndim == 2 else image[..., :3]
    stretched = percentile_normalisation(colours, lower=LOWER_PERCENT, upper=UPPER_PERCENT)
    return np.broadcast_to(stretched, (*image.shape[:2], 3))


def draw_overlay(image: Image, labels: Labels) -> NDArray[np.uint8]:
    """Draw the outline of each nucleus, one pixel wide and inside it, on the contrast-stretched image.

    Parameters
    ----------
    image : (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) ndarray
        An alpha channel is dropped.
    labels : (H, W) ndarray of int32

    Returns
    -------
    (H, W, 3) ndarray of uint8
    """
    picture = (stretch_contrast(image) * 255).round().astype(np.uint8)
    edge = find_boundaries(labels, mode="thick")  # pixels with another label beside them, on both sides
    rim = edge & (labels == 0)
    picture[rim] = (picture[rim] * RIM_BRIGHTNESS).astype(np.uint8)
    picture[edge & (labels > 0)] = OUTLINE_RGB
    return picture
