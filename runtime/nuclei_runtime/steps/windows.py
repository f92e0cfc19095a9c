"""Windows of an image, and which nuclei belong to which window.

A nucleus grows from its seed, a 4-connected set of pixels. It belongs to the window whose core contains the first pixel
of its seed in row-by-row order. A seed counts only in windows that contain all of it, and it is the same set of pixels
in each of them. So if the cores of the windows tile the image, each seed belongs to exactly one window, whatever grows
from it there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


class CutNucleusError(Exception):
    """A nucleus that belongs to a window extends beyond it: a larger window is needed. Users never see this error."""


@dataclass(frozen=True, eq=False)
class Window:
    """A part of an image.

    Attributes
    ----------
    core : (slice, slice)
        Rows and columns, counted within the window.
    is_cut : (bool, bool, bool, bool)
        Whether the image continues above, below, left and right of the window.
    taken : (h, w) ndarray of bool
        Pixels of nuclei of earlier windows, into which no other nucleus may grow.
    """

    core: tuple[slice, slice]
    is_cut: tuple[bool, bool, bool, bool]
    taken: NDArray[np.bool_]

    def cut_pieces(self, pieces: NDArray[np.integer[Any]], n_pieces: int) -> NDArray[np.bool_]:
        """Return whether each piece, indexed by its number from 0, touches an edge beyond which the image continues."""
        cut = np.zeros(n_pieces + 1, bool)
        for is_cut, edge in zip(self.is_cut, (pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]), strict=True):
            if is_cut:
                cut[edge] = True
        cut[0] = False
        return cut

    def own_seeds(self, seeds: NDArray[np.integer[Any]], n_seeds: int) -> NDArray[np.bool_]:
        """Return whether each seed, indexed by its number from 0, belongs to this window.

        Raises
        ------
        CutNucleusError
            A seed that belongs to the window extends beyond it.
        """
        if not any(self.is_cut) and self.core == tuple(slice(0, length) for length in seeds.shape):
            return np.arange(n_seeds + 1) > 0  # the whole image: all seeds belong to it
        first = np.full(n_seeds + 1, -1, np.intp)
        places = np.flatnonzero(seeds)[::-1]
        first[seeds.ravel()[places]] = places  # the last value written for a number stays: its first pixel
        rows, columns = np.divmod(first, seeds.shape[1])
        core_rows, core_columns = self.core
        own: NDArray[np.bool_] = (rows >= core_rows.start) & (rows < core_rows.stop)
        own &= (columns >= core_columns.start) & (columns < core_columns.stop) & (first >= 0)
        if (own & self.cut_pieces(seeds, n_seeds)).any():
            raise CutNucleusError
        return own


def whole_image(shape: tuple[int, ...]) -> Window:
    """Return the window that covers a whole image."""
    height, width = shape[:2]
    return Window((slice(0, height), slice(0, width)), (False,) * 4, np.zeros((height, width), bool))
