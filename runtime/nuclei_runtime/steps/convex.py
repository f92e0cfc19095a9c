"""The areas of the convex hulls of all nuclei at once, as `skimage.measure.regionprops` counts them one by one.

scikit-image stands each pixel for the diamond between the middles of its edges, takes the convex hull of all diamonds,
and counts the pixels whose centres lie in it or on its edge (`skimage.morphology.convex_hull_image`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_TOLERANCE = 1e-6
"""A centre on the hull's edge counts. Any other is further away than 1 / (2 rows)."""


def convex_areas(starts: NDArray[np.intp], rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the area of each nucleus's convex hull, in pixels.

    Parameters
    ----------
    starts : (n,) ndarray
        Index of the first pixel of each nucleus.
    rows, columns : (p,) ndarray
        Of each pixel, sorted by nucleus, and within a nucleus row by row.
    """
    n = len(starts)
    if not n:
        return np.zeros(0, np.intp)
    begins = np.ones(rows.size, bool)  # a row of a nucleus
    begins[1:] = rows[1:] != rows[:-1]
    begins[starts] = True
    first = np.flatnonzero(begins)
    last = np.append(first[1:], rows.size) - 1
    # The right side of a nucleus is the left side of its mirror image.
    side_starts = np.searchsorted(first, starts)
    side_starts = np.concatenate([side_starts, side_starts + first.size])
    down = np.tile(rows[first], 2)
    across = np.concatenate([columns[first], -columns[last]])
    edges, at = _left_edges(side_starts, down, across)
    left, right = np.split(np.ceil(edges - _TOLERANCE).astype(np.intp), 2)
    return np.asarray(np.add.reduceat(1 - left - right, at[:n]))


def _left_edges(
    starts: NDArray[np.intp], down: NDArray[np.intp], across: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return where each row enters the hull of the diamonds, and the index of the first row of each side."""
    is_corner = _corners(starts, down, across)
    ends = np.append(starts[1:], down.size) - 1
    heights = down[ends] - down[starts] + 1
    firsts = np.cumsum(heights) - heights
    places = down + np.repeat(firsts - down[starts], ends - starts + 1)
    centre = np.interp(np.arange(heights.sum()), places[is_corner], across[is_corner])  # of the hull of the centres
    # The hull of the diamonds: each row reaches half a pixel further, or as far as the hull half a row away.
    edges = centre - 0.5
    between = (centre[1:] + centre[:-1]) / 2
    between[firsts[1:] - 1] = np.inf  # between two sides
    edges[1:] = np.minimum(edges[1:], between)
    edges[:-1] = np.minimum(edges[:-1], between)
    return edges, firsts


def _corners(starts: NDArray[np.intp], down: NDArray[np.intp], across: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Return which of the leftmost pixels are corners of the hull: gift wrapping, all sides in step."""
    is_corner = np.zeros(down.size, bool)
    ends = np.append(starts[1:], down.size) - 1
    is_corner[starts] = is_corner[ends] = True
    corner, end = starts[starts < ends], ends[starts < ends]
    while corner.size:
        counts = end - corner
        firsts = np.cumsum(counts) - counts
        points = np.arange(counts.sum()) + np.repeat(corner + 1 - firsts, counts)
        origin = np.repeat(corner, counts)
        slopes = (across[points] - across[origin]) / (down[points] - down[origin])
        steepest = np.repeat(np.minimum.reduceat(slopes, firsts), counts)
        corner = np.maximum.reduceat(np.where(slopes == steepest, points, -1), firsts)
        is_corner[corner] = True
        corner, end = corner[corner < end], end[corner < end]
    return is_corner
