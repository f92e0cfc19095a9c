"""Resizing to the input size of a network of fixed size."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.steps.step import PreprocessingStep, side


def resize(image: NDArray[np.float32], *, height: int, width: int) -> NDArray[np.float32]:
    """Resize to a fixed height and width, regardless of the aspect ratio.

    Uses `skimage.transform.resize`, bilinear, with its Gaussian anti-aliasing along axes that shrink.
    """
    from skimage import transform

    resized = transform.resize(image, (height, width), order=1, mode="reflect", anti_aliasing=True)
    return np.asarray(resized, dtype=np.float32)


RESIZE = PreprocessingStep(
    {"height": side(), "width": side()},
    apply=resize,
    output_size=lambda kwargs: (kwargs["height"], kwargs["width"]),
)
