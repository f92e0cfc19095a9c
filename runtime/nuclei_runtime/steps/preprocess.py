"""Image -> network input. Training calls the very same functions, so that a network only ever sees one kind of input.

The steps stand in the model card as ``{"id": ..., "kwargs": {...}}``, in order; `STEPS` has a row for each that exists.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.arrays import Image, check_image
from nuclei_runtime.steps.percentiles import PERCENTILE_NORMALISATION
from nuclei_runtime.steps.resize import RESIZE
from nuclei_runtime.steps.step import Step

CHANNELS = 3
"""Of the network's input: RGB, or grey three times."""


STEPS = {"percentile_normalisation": PERCENTILE_NORMALISATION, "resize": RESIZE}


def preprocess(image: Image, steps: Sequence[Step]) -> NDArray[np.float32]:
    """Turn an image into what the network takes.

    Parameters
    ----------
    image : (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) ndarray
        Of any bool, integer or float type and any range of values. An alpha channel is dropped; grey is repeated
        into three channels, after the steps.
    steps : sequence of Step
        A model card's ``preprocessing``.

    Returns
    -------
    (h, w, 3) ndarray of float32

    Raises
    ------
    ImageShapeError, ImageValueError
        See `nuclei_runtime.arrays.check_image`.
    """
    check_image(image)
    current: Any = colours_of(image)
    for step in steps:
        current = STEPS[step.id].apply(current, **step.kwargs)
    return as_input(current)


def colours_of(image: Image) -> Image:
    """Return an image as (H, W) where it is grey, else as (H, W, 3), without an alpha channel."""
    if image.ndim == 2:
        return image
    return image[..., 0] if image.shape[2] == 1 else image[..., :3]


def as_input(image: NDArray[Any]) -> NDArray[np.float32]:
    """Return an image after the steps as the network takes it: grey three times, contiguous."""
    colours = np.repeat(image[..., np.newaxis], CHANNELS, axis=-1) if image.ndim == 2 else image
    return np.ascontiguousarray(colours, dtype=np.float32)
