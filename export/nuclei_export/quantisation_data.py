"""The images on which quantisation is calibrated and measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.arrays import Labels


@dataclass(frozen=True)
class QuantisationData:
    """Images as the network receives them, in 8 bits (see `nuclei_runtime.arrays.from_uint8`).

    Attributes
    ----------
    crops : (N, H, W, 3) ndarray of uint8
        Of training images, to calibrate with.
    images : tuple of (H, W, 3) ndarray of uint8
        The images to choose on.
    labels : tuple of (H, W) ndarray of int32
        Their truth.
    scored_on : str
        What these images are, for the report: a fine-tuning has too few to set some aside.
    """

    crops: NDArray[np.uint8]
    images: Sequence[NDArray[np.uint8]]
    labels: Sequence[Labels]
    scored_on: str
