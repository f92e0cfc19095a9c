"""An image's modality, guessed if no table gives it."""

from __future__ import annotations

import numpy as np

from nuclei_runtime.arrays import Image
from nuclei_runtime.steps.percentiles import percentile_limits

FLUORESCENCE, BRIGHTFIELD, HISTOLOGY = "fluorescence", "brightfield", "histology"

LOWER_PERCENT, UPPER_PERCENT = 1.0, 99.8
"""Brightness is measured between these percentiles; the upper one captures even one nucleus in a dark field."""

DARK_BACKGROUND = 0.38
"""Median brightness, on a scale from 0 at the lower percentile to 1 at the upper. In the 664 training and 65 test
images of stage 1 of the Data Science Bowl 2018, fluorescence is at 0.32 and below, the rest at 0.43 and above."""

COLOURED = 0.03
"""Mean difference between the highest and the lowest channel, in units of the upper percentile. In the same images it
is 0 for brightfield (cytology, stored as grey RGB) and 0.05 and above for stained tissue."""


def guess_modality(image: Image) -> str:
    """Guess how an image was taken, from its background and its colours.

    A dark background means fluorescence; a bright one means histology if it is coloured, else brightfield. The median
    represents the background, so fluorescence whose nuclei cover most of the field is taken for brightfield. An image
    without contrast counts as dark.

    Parameters
    ----------
    image : (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) ndarray
        Of any intensity type and range; an alpha channel is ignored.

    Returns
    -------
    str
        ``fluorescence``, ``brightfield`` or ``histology``.
    """
    channels = np.atleast_3d(image)[..., :3].astype(np.float32)
    brightness = channels.mean(axis=-1)
    low, high = percentile_limits(brightness, LOWER_PERCENT, UPPER_PERCENT)
    background = (float(np.median(brightness)) - low) / (high - low) if high > low else 0.0
    if background < DARK_BACKGROUND:
        return FLUORESCENCE
    is_coloured = float(np.ptp(channels, axis=-1).mean()) > COLOURED * high
    return HISTOLOGY if is_coloured else BRIGHTFIELD


def modality_group(modality: str) -> str:
    """Return what a modality of the split table would be guessed as: ``histology`` for ``histology_pink_HE``."""
    return modality.partition("_")[0]
