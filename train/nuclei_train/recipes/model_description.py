"""The parts of the model card that all recipes share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LIMITATIONS_OF_ALL = (
    "Contrast is stretched to whatever has structure, so false nuclei may appear in an image without any nucleus.",
    "For research; not validated for diagnosis.",
)
"""Limitations of the models of all recipes, for the model card."""


SPECKS_PERCENT = 0.5
"""Share of the masks that may be specks which no annotator meant to draw. In the DSB2018 masks, which hold none, it
changes nothing; three data sets together have a few masks of 8 pixels, and a model that drops nothing larger finds many
false nuclei."""


def smallest_area_px(areas_px: NDArray[np.int64]) -> int:
    """Return the area of the smallest training nucleus, apart from specks: nothing below it is a nucleus."""
    return int(np.percentile(areas_px, SPECKS_PERCENT, method="lower"))


def describe_training(areas_px: NDArray[np.int64]) -> dict[str, Any]:
    """Return the field of the model card on the size of the training nuclei.

    Parameters
    ----------
    areas_px : (N,) ndarray of int
        Area of every nucleus in the training images, in pixels of the original images; at least one.
    """
    return {"training_nucleus_diameter_px": round(float(np.median(2 * np.sqrt(areas_px / np.pi))), 1)}
