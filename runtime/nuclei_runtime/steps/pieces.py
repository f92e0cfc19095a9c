"""The connected pieces of a label image: their areas, and new numbers for those that are kept."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def areas_of(pieces: NDArray[np.integer[Any]], n_pieces: int) -> NDArray[np.intp]:
    """Return each piece's number of pixels, by number from 0."""
    return np.bincount(pieces.ravel(), minlength=n_pieces + 1)


def number_kept(kept: NDArray[np.bool_], first: int = 1) -> NDArray[np.int32]:
    """Return the new numbers, from `first` on, of the pieces that are kept, by number from 0; 0 for the others."""
    kept[0] = False
    return np.where(kept, np.cumsum(kept) + (first - 1), 0).astype(np.int32)
