"""What every recipe says of the nuclei that it was trained on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def describe_training(areas_px: NDArray[np.int64]) -> dict[str, Any]:
    """Return the model card's field on the size of the training nuclei.

    Parameters
    ----------
    areas_px : (N,) ndarray of int
        Area of every nucleus that was fitted, in pixels of the original images; at least one.
    """
    return {"training_nucleus_diameter_px": round(float(np.median(2 * np.sqrt(areas_px / np.pi))), 1)}
