"""Synthetic images of any size with any number of nuclei, made quickly by repeating one field."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.checks.synthetic import fluorescence_field

FIELD_PX = 256


@cache
def mosaic(side_px: int, nuclei_a_field: int = 24) -> NDArray[np.uint8]:
    """Return a (side_px, side_px) image of fields of `FIELD_PX`, each with at most a given number of nuclei."""
    field, _ = fluorescence_field(1, height=FIELD_PX, width=FIELD_PX, n_nuclei=nuclei_a_field)
    repeats = -(-side_px // FIELD_PX)
    return np.tile(field, (repeats, repeats))[:side_px, :side_px]
