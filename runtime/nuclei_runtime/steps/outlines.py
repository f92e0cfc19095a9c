"""The polygon around each nucleus of a label image, along the edges of its pixels."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.arrays import Labels
from nuclei_runtime.errors import ImageValueError

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

    Raises
    ------
    ImageValueError
        A number is missing.
    """
    from scipy import ndimage

    boxes = ndimage.find_objects(labels)
    if None in boxes:
        missing = boxes.index(None) + 1
        raise ImageValueError(
            f"found labels up to {len(boxes)} without {missing}, expected all numbers from 1; number them anew, as "
            "skimage.segmentation.relabel_sequential does"
        )
    return [
        _trace(labels[rows, columns] == number, (rows.start, columns.start))
        for number, (rows, columns) in enumerate(boxes, 1)
    ]


def trace_polygons(mask: NDArray[np.bool_]) -> list[list[NDArray[np.intp]]]:
    """Return the polygons that cover exactly the pixels of a nucleus, holes and separate pieces included.

    They are valid in the sense of OGC Simple Features: a ring never touches itself. Where two pixels of a piece touch
    only at a corner, the background between them is a hole that touches the outer ring there.

    Parameters
    ----------
    mask : (h, w) ndarray of bool
        The pixels of the nucleus, in its bounding box.

    Returns
    -------
    list of list of (K, 2) ndarray
        For each 4-connected piece its rings, the outer one first, then its holes. A ring has the (row, column) of
        its corners, the last of which repeats the first: clockwise on the screen, holes the other way round. Whole
        numbers are the corners of pixels: the pixel in row 0 and column 0 covers the square from 0 to 1.
    """
    from scipy import ndimage

    pieces, n_pieces = ndimage.label(mask)
    return [_rings(pieces == piece) for piece in range(1, n_pieces + 1)]


def _trace(mask: NDArray[np.bool_], origin: tuple[int, int]) -> NDArray[np.float64]:
    """Follow the outer edge of a piece that fills its box, keeping the piece on the right."""
    width = mask.shape[1] + 2
    inside = np.pad(mask, 1).tobytes()  # one byte per pixel
    # The upper edge of the first pixel is part of the outer edge. 1 for the padding, 0.5 from a centre to a corner.
    return _corners(_follow(inside, width, inside.index(1)), width) + (np.array(origin) - 0.5)


def _rings(piece: NDArray[np.bool_]) -> list[NDArray[np.intp]]:
    """Return the outer ring of a 4-connected piece, and its holes."""
    width = piece.shape[1] + 2
    padded = np.pad(piece, 1)
    inside = padded.tobytes()
    # Each ring has an edge above one of the piece's pixels, and the first of all is on the outer ring.
    upper_edges = np.flatnonzero(padded[1:] & ~padded[:-1]) + width
    rings = []
    while upper_edges.size:
        turns = _follow(inside, width, int(upper_edges[0]), stay=False)
        rings.append(_corners(turns, width))
        followed = [range(one, two) for one, two in pairwise(turns) if one < two < one + width]
        if sum(map(len, followed)) == upper_edges.size:
            break
        upper_edges = np.setdiff1d(upper_edges, np.concatenate(followed))
    return rings


def _follow(inside: bytes, width: int, start: int, *, stay: bool = True) -> list[int]:
    """Return the corners at which an edge turns, with the piece on its right, from `start` until there.

    Parameters
    ----------
    inside : bytes
        One byte per pixel, with a border of zeros.
    width : int
    start : int
        A corner at which the edge turns and then goes to the right. A corner has the number of its own pixel.
    stay : bool
        Where two pixels touch only at a corner, whether to stay with the one that was followed, so that a ring may pass
        through a corner twice.
    """
    steps = [tuple(row * width + column for row, column in ahead) for ahead in _AHEAD]
    corner = start
    heading = 0
    turns = [start]
    while True:
        step, right, left = steps[heading]
        corner += step
        if inside[corner + left] and (inside[corner + right] or not stay):
            turn = -1
        elif not inside[corner + right]:
            turn = 1
        else:
            continue
        turns.append(corner)
        heading = (heading + turn) % 4
        if corner == start and heading == 0:
            return turns


def _corners(turns: list[int], width: int) -> NDArray[np.intp]:
    """Return the rows and columns of corners, without the border."""
    return np.stack(np.divmod(np.array(turns), width), axis=1) - 1
