"""From an image to the input of a network. Training calls the same functions, so a network sees only one kind of input.

A model card lists the steps in order as ``{"id": ..., "kwargs": {...}}``; `STEPS` has one row per existing step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.arrays import Image, check_image
from nuclei_runtime.steps.contrast import Contrast
from nuclei_runtime.steps.percentiles import PERCENTILE_NORMALISATION
from nuclei_runtime.steps.resize import RESIZE
from nuclei_runtime.steps.step import Pixels, Step
from nuclei_runtime.steps.structure import STRUCTURE_NORMALISATION

CHANNELS = 3
"""Channels of the network's input: RGB, or grey three times."""


STEPS = {
    "percentile_normalisation": PERCENTILE_NORMALISATION,
    "resize": RESIZE,
    "structure_normalisation": STRUCTURE_NORMALISATION,
}


def preprocess(image: Image, steps: Sequence[Step]) -> NDArray[np.float32]:
    """Turn an image into the input of a network.

    Parameters
    ----------
    image : (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) ndarray
        Of any bool, integer or float type and any range of values. An alpha channel is dropped; grey is repeated to
        three channels after the steps.
    steps : sequence of Step
        The ``preprocessing`` of a model card.

    Returns
    -------
    (h, w, 3) ndarray of float32

    Raises
    ------
    ImageShapeError, ImageValueError
        See `nuclei_runtime.arrays.check_image`.
    """
    return prepare(image, steps)[0]


def prepare(image: Image, steps: Sequence[Step]) -> tuple[NDArray[np.float32], Contrast | None]:
    """Return what `preprocess` returns, and the contrast that the image was given."""
    check_image(image)
    current: Any = colours_of(image)
    applied = []
    for step in steps:
        applied.append(STEPS[step.id].of(Pixels.of(current), step.kwargs))
        current = applied[-1](current)
    return as_input(current), contrast_of(applied)


def contrast_of(applied: Sequence[Callable[[NDArray[Any]], NDArray[np.float32]]]) -> Contrast | None:
    """Return the contrast that the fitted steps give an image: that of the first step, which alone sees its values."""
    return applied[0] if applied and isinstance(applied[0], Contrast) else None


def colours_of(image: Image) -> Image:
    """Return an image as (H, W) if it is grey, otherwise as (H, W, 3), without an alpha channel."""
    if image.ndim == 2:
        return image
    return image[..., 0] if image.shape[2] == 1 else image[..., :3]


def as_input(image: NDArray[Any]) -> NDArray[np.float32]:
    """Return a preprocessed image as input of a network: contiguous, with grey repeated three times."""
    colours = np.stack([image] * CHANNELS, axis=-1) if image.ndim == 2 else image
    return np.ascontiguousarray(colours, dtype=np.float32)
