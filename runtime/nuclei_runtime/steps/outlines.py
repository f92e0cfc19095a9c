"""The polygon around each nucleus of a label image, along the edges of its pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.arrays import Labels

_AHEAD = (
    # Step to the next corner, then the pixels ahead on the right and on the left, relative to the corner's own pixel.
    ((0, 1), (0, 0), (-1, 0)),  # to the right
    ((1, 0), (0, -1), (0, 0)),  # down
    ((0, -1), (-1, -1), (0, -1)),  # to the left
    ((-1, 0), (-1, 0), (-1, -1)),  # up
)
"""The four directions, clockwise on the screen. A corner's own pixel is the one below it on the right."""


def trace_outlines(labels: Labels) -> list[NDArray[np.float64]]:
    """Return the outline of each nucleus.

    An outline follows the edges of pixels, so that filling it gives exactly the pixels of the nucleus. If two of these
    pixels touch only at a corner, the outline may pass through that corner twice: nuclei are 4-connected. Only the
    outer edge is returned, so a filled outline covers the holes that the nucleus encloses.

    Parameters
    ----------
    labels : (H, W) ndarray of int32
        0 background, 1..N, each one 4-connected piece.

    Returns
    -------
    list of (K, 2) ndarray of float64
        For each nucleus 1..N, the (row, column) of its corners, clockwise on the screen. The last corner repeats the
        first. As in ``centroid_row_px`` and ``centroid_column_px``, whole numbers are the centres of pixels, so
        corners lie at half-integers, from -0.5 to H - 0.5 and W - 0.5.
    """
    from scipy import ndimage

    boxes = ndimage.find_objects(labels)
    return [
        _trace(labels[rows, columns] == number, (rows.start, columns.start))
        for number, (rows, columns) in enumerate(boxes, 1)
    ]


def _trace(mask: NDArray[np.bool_], origin: tuple[int, int]) -> NDArray[np.float64]:
    """Follow the outer edge of a piece that fills its box, keeping the piece on the right."""
    width = mask.shape[1] + 2
    inside = np.pad(mask, 1).tobytes()  # one byte per pixel
    steps = [tuple(row * width + column for row, column in ahead) for ahead in _AHEAD]
    # Corners have the numbers of their own pixels. The upper edge of the first pixel is part of the outer edge.
    corner = start = inside.index(1)
    heading = 0
    turns = [start]
    while True:
        step, right, left = steps[heading]
        corner += step
        if not inside[corner + right]:  # where two pixels touch at a corner, stay with this one
            turn = 1
        elif inside[corner + left]:
            turn = -1
        else:
            continue
        turns.append(corner)
        heading = (heading + turn) % 4
        if corner == start and heading == 0:
            corners = np.stack(np.divmod(np.array(turns), width), axis=1)
            return corners + (np.array(origin) - 1.5)  # 1 for the padding, 0.5 from a pixel's centre to its corner
