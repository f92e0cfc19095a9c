"""A window of an image, and which of the nuclei in it are its own: so that windows share out an image's nuclei.

A nucleus grows from its seed, a 4-connected set of pixels. It belongs to the window in whose core the first pixel of
its seed lies, row by row. A seed counts only where a window holds it wholly, and a seed is the same set of pixels in
every window that holds it wholly: so, where the cores of the windows share out the image, each seed belongs to exactly
one window, whatever grows from it there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


class CutNucleusError(Exception):
    """A nucleus that belongs to a window goes on beyond it: a larger window is needed. Users never see this."""


@dataclass(frozen=True, eq=False)
class Window:
    """A part of an image.

    Attributes
    ----------
    core : (slice, slice)
        Rows and columns, counted within the window.
    is_cut : (bool, bool, bool, bool)
        Whether the image goes on above, below, left and right of the window.
    taken : (h, w) ndarray of bool
        Pixels of the nuclei of earlier windows, into which no other nucleus grows.
    """

    core: tuple[slice, slice]
    is_cut: tuple[bool, bool, bool, bool]
    taken: NDArray[np.bool_]

    def cut_pieces(self, pieces: NDArray[np.integer[Any]], n_pieces: int) -> NDArray[np.bool_]:
        """Return which pieces, by number from 0, touch an edge beyond which the image goes on."""
        cut = np.zeros(n_pieces + 1, bool)
        for is_cut, edge in zip(self.is_cut, (pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]), strict=True):
            if is_cut:
                cut[edge] = True
        cut[0] = False
        return cut

    def own_seeds(self, seeds: NDArray[np.integer[Any]], n_seeds: int) -> NDArray[np.bool_]:
        """Return which seeds, by number from 0, belong to this window.

        Raises
        ------
        CutNucleusError
            One of them is not wholly in the window.
        """
        if not any(self.is_cut) and self.core == tuple(slice(0, length) for length in seeds.shape):
            return np.arange(n_seeds + 1) > 0  # the whole image: all of them
        first = np.full(n_seeds + 1, -1, np.intp)
        places = np.flatnonzero(seeds)[::-1]
        first[seeds.ravel()[places]] = places  # of a number's places the last written stays: its first pixel
        rows, columns = np.divmod(first, seeds.shape[1])
        core_rows, core_columns = self.core
        own: NDArray[np.bool_] = (rows >= core_rows.start) & (rows < core_rows.stop)
        own &= (columns >= core_columns.start) & (columns < core_columns.stop) & (first >= 0)
        if (own & self.cut_pieces(seeds, n_seeds)).any():
            raise CutNucleusError
        return own


def whole_image(shape: tuple[int, ...]) -> Window:
    """Return the window that is the whole of an image of a shape."""
    height, width = shape[:2]
    return Window((slice(0, height), slice(0, width)), (False,) * 4, np.zeros((height, width), bool))
