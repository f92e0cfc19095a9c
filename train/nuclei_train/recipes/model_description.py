"""What every recipe says of the nuclei that it was trained on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LIMITATIONS_OF_ALL = (
    "Contrast is stretched to the brightest of the image, so an image without any nucleus may show false ones.",
    "For research; not validated for diagnosis.",
)
"""For the model card: what no recipe's model can do."""


def smallest_area_px(areas_px: NDArray[np.int64]) -> int:
    """Return the area below which nothing is a nucleus: those who drew the training masks never called it one."""
    return int(areas_px.min())


def describe_training(areas_px: NDArray[np.int64]) -> dict[str, Any]:
    """Return the model card's field on the size of the training nuclei.

    Parameters
    ----------
    areas_px : (N,) ndarray of int
        Area of every nucleus that was fitted, in pixels of the original images; at least one.
    """
    return {"training_nucleus_diameter_px": round(float(np.median(2 * np.sqrt(areas_px / np.pi))), 1)}
