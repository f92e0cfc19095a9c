"""Image -> network input. Training calls the very same functions, so that a network only ever sees one kind of input.

The steps stand in the model card as ``{"id": ..., "kwargs": {...}}``, in order; `STEPS` is the list of those
that exist.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.reading import Image, check_image

CHANNELS = 3
"""Of the network's input: RGB, or grey three times."""


@dataclass(frozen=True)
class Step:
    """One step of pre- or postprocessing as a model card spells it: a function's name and its keyword arguments."""

    id: str
    kwargs: dict[str, Any]


def percentile_limits(image: Image, lower: float, upper: float) -> tuple[float, float]:
    """Return the two percentiles of all values of an image, channels taken together.

    The percentile is the nearest-rank one (the smallest value v such that at least p % of all values are <= v;
    type 1 of Hyndman and Fan 1996), so it is itself a value of the image: the same picture in 8 and in 16 bits, or
    grey and the grey repeated as RGB, gives limits at the same place.

    Parameters
    ----------
    image : ndarray of any shape
    lower, upper : float
        In percent, 0 to 100.
    """
    values = image.ravel()
    # Exact, as the decimal is spelt: in floats 1.1 % of 1000 values would be 12.
    ranks = [max(math.ceil(Fraction(str(p)) * values.size / 100) - 1, 0) for p in (lower, upper)]
    if values.dtype.kind in "bu" and values.dtype.itemsize <= 2:  # counting is faster than partitioning
        cumulative = np.cumsum(np.bincount(values.astype(np.uint16, copy=False)))
        low, high = (int(np.searchsorted(cumulative, rank, side="right")) for rank in ranks)
    else:
        low, high = np.partition(values, ranks)[ranks].tolist()
    return float(low), float(high)


def percentile_normalisation(image: Image, *, lower: float, upper: float) -> NDArray[np.float32]:
    """Map the image's lower percentile to 0 and its upper one to 1, and clip to that range.

    Once an image, over all channels: the colours keep their relation. An image without contrast
    (both percentiles alike) becomes all 0.

    Parameters
    ----------
    image : (H, W) or (H, W, 3) ndarray of any intensity type
    lower, upper : float
        In percent, 0 to 100.

    Returns
    -------
    float32 ndarray of the same shape, in [0, 1]
    """
    # Halves, because the difference of two float64 values may be infinite, and that of their halves is not.
    low, high = (limit / 2 for limit in percentile_limits(image, lower, upper))
    if high <= low:
        return np.zeros(image.shape, np.float32)
    # Float64 until the end: in float32 a 32-bit integer image would lose its low bits before the subtraction.
    clipped = np.clip(image.astype(np.float64) / 2, low, high)
    return ((clipped - low) / (high - low)).astype(np.float32)


def resize(image: NDArray[np.float32], *, height: int, width: int) -> NDArray[np.float32]:
    """Resize to a fixed height and width, whatever the aspect ratio.

    `skimage.transform.resize`, bilinear, with its Gaussian anti-aliasing where the image shrinks.
    """
    from skimage import transform

    resized = transform.resize(image, (height, width), order=1, mode="reflect", anti_aliasing=True)
    return np.asarray(resized, dtype=np.float32)


STEPS: dict[str, Callable[..., NDArray[np.float32]]] = {
    "percentile_normalisation": percentile_normalisation,
    "resize": resize,
}


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
        See `nuclei_runtime.reading.check_image`.
    """
    check_image(image)
    current: Any = image
    if image.ndim == 3:
        current = image[..., 0] if image.shape[2] == 1 else image[..., :3]
    for step in steps:
        current = STEPS[step.id](current, **step.kwargs)
    if current.ndim == 2:
        current = np.repeat(current[..., np.newaxis], CHANNELS, axis=-1)
    return np.ascontiguousarray(current, dtype=np.float32)
