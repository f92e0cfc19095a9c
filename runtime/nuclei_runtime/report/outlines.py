"""The outlines of a label image, packed into few bytes: the exact edges of its pixels, as turns to the left and right.

A outline starts at the upper left corner of the first pixel of a nucleus, in reading order, and goes to the right. At
each corner between pixels it goes straight on, turns right (clockwise on the screen) or turns left, with the nucleus on
its right, until it is back at the start and would go right again. `nuclei_runtime/report/page/data.js` reads it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.arrays import Labels

STRAIGHT, RIGHT, LEFT = 0, 1, 2

TURNS_A_BYTE = 5
"""3 to the power of 5 is 243: five turns fit into a byte."""


@dataclass(frozen=True)
class Outlines:
    """The outlines of the nuclei of a plane.

    Attributes
    ----------
    labels : (n,) ndarray of int32
        Ascending; that of a nucleus in several pieces is there once for each.
    rows, columns : (n,) ndarray of int32
        The corner at which the outline starts: the pixel below it on the right has this row and column.
    turns : (t,) ndarray of uint8
        `STRAIGHT`, `RIGHT` or `LEFT`, of one outline after the other.
    """

    labels: NDArray[np.int32]
    rows: NDArray[np.int32]
    columns: NDArray[np.int32]
    turns: NDArray[np.uint8]

    def to_bytes(self) -> bytes:
        """Return the three arrays of numbers as differences of 32 bits, then the turns, five in a byte."""
        arrays = [np.diff(array, prepend=0) for array in (self.labels, self.rows, self.columns)]
        padded = np.pad(self.turns, (0, -len(self.turns) % TURNS_A_BYTE)).reshape(-1, TURNS_A_BYTE)
        packed = padded @ 3 ** np.arange(TURNS_A_BYTE, dtype=np.int64)
        # The first bytes of all numbers, then the second and so on: most of these are 0 or 255.
        numbers = np.concatenate(arrays).astype("<i4").view(np.uint8).reshape(-1, 4).T
        return numbers.tobytes() + packed.astype(np.uint8).tobytes()


def trace_turns(labels: Labels) -> Outlines:
    """Follow the outer edge of each 4-connected piece of all nuclei at once, a corner at a time.

    Parameters
    ----------
    labels : (H, W) ndarray of int32
        0 background. Numbers may be missing.
    """
    from skimage.measure import label

    width = labels.shape[1] + 2
    padded = np.pad(labels, 1)
    flat = label(padded, connectivity=1).ravel()
    numbers, first = np.unique(flat, return_index=True)
    of = padded.ravel()[first]
    order = np.argsort(of, kind="stable")[1:]  # without the background, which has the lowest number
    numbers, first, of = numbers[order], first[order], of[order]
    # From a corner, by heading (right, down, left, up): the next corner, and the pixels ahead on the right and left.
    # A corner has the number of the pixel below it on the right.
    step = np.array([1, width, -1, -width])
    right = np.array([0, -1, -width - 1, -width])
    left = np.array([-width, 0, -1, -width - 1])
    corner, heading, active = first.copy(), np.zeros_like(first), np.arange(len(first))
    taken: list[tuple[NDArray[np.intp], NDArray[np.uint8]]] = []
    while active.size:
        corner[active] += step[heading[active]]
        at, towards, number = corner[active], heading[active], numbers[active]
        inside_right, inside_left = flat[at + right[towards]] == number, flat[at + left[towards]] == number
        turn = np.where(~inside_right, RIGHT, np.where(inside_left, LEFT, STRAIGHT)).astype(np.uint8)
        heading[active] = (towards + np.array([0, 1, 3])[turn]) % 4
        taken.append((active, turn))
        active = active[(corner[active] != first[active]) | (heading[active] != 0)]
    turns = np.zeros(0, np.uint8)
    if taken:
        outline = np.concatenate([active for active, _ in taken])
        turns = np.concatenate([turn for _, turn in taken])[np.argsort(outline, kind="stable")]
    rows, columns = np.divmod(first, width)
    return Outlines(of.astype(np.int32), (rows - 1).astype(np.int32), (columns - 1).astype(np.int32), turns)
