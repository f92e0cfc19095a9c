"""Connected pieces of a label image: their areas, and renumbering of those that are kept."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def areas_of(pieces: NDArray[np.integer[Any]], n_pieces: int) -> NDArray[np.intp]:
    """Return the number of pixels of each piece, indexed by its number from 0."""
    return np.bincount(pieces.ravel(), minlength=n_pieces + 1)


def number_kept(kept: NDArray[np.bool_], first: int = 1) -> NDArray[np.int32]:
    """Return the new number of each piece, indexed by its old one: from `first` if it is kept, otherwise 0."""
    kept[0] = False
    return np.where(kept, np.cumsum(kept) + (first - 1), 0).astype(np.int32)
