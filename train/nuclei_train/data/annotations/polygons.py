"""Outlines -> masks.

Coordinates are those of pixel corners, as QuPath, ImageJ and COCO use them: the first pixel reaches from 0 to 1. A
pixel belongs to a nucleus if its centre lies within the outline. What lies within a hole is background. Parts beyond
the image are cut off, and an outline that lies wholly beyond it becomes no nucleus.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nuclei_train.data.annotations.drawing import OUTSIDE, LeftOut, Nucleus
from nuclei_train.errors import DatasetError

MIN_CORNERS = 3


@dataclass(frozen=True)
class Outline:
    """The outline of one nucleus.

    Attributes
    ----------
    where : str
        See `nuclei_train.data.annotations.drawing.Nucleus`.
    parts : tuple
        Its pieces, each a sequence of rings: the outer one, then its holes. A ring is (n, 2), x and y.
    """

    where: str
    parts: tuple[tuple[NDArray[np.float64], ...], ...]


def ring(coordinates: Any, where: str) -> NDArray[np.float64]:
    """Return a ring of x and y, (n, 2).

    Raises
    ------
    DatasetError
        These are not pairs of finite numbers, or fewer than three.
    """
    try:
        points = np.asarray(coordinates, np.float64)
    except (TypeError, ValueError, OverflowError):
        points = np.empty(0)
    if points.ndim != 2 or points.shape[1] < 2 or len(points) < MIN_CORNERS or not np.isfinite(points).all():
        raise DatasetError(f"{where}: expected an outline of three or more pairs of finite x and y; export it again")
    return points[:, :2]


def draw_outlines(
    outlines: Iterable[Outline], size: tuple[int, int]
) -> tuple[tuple[Nucleus, ...], tuple[LeftOut, ...]]:
    """Return the nuclei within an image of this height and width, and the outlines that lie outside."""
    nuclei, left_out = [], []
    for outline in outlines:
        nucleus = _draw(outline, size)
        if nucleus is None:
            left_out.append(LeftOut(OUTSIDE, f"{outline.where}: the image is {size[0]} x {size[1]} px"))
        else:
            nuclei.append(nucleus)
    return tuple(nuclei), tuple(left_out)


def _draw(outline: Outline, size: tuple[int, int]) -> Nucleus | None:
    points = np.concatenate([part[0] for part in outline.parts])
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    if right <= 0 or bottom <= 0 or left >= size[1] or top >= size[0]:
        return None
    rows, columns = _span(top, bottom, size[0]), _span(left, right, size[1])
    mask = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.bool_)
    for outer, *holes in outline.parts:
        piece = _fill(outer, (columns.start, rows.start), mask.shape)
        for hole in holes:
            piece &= ~_fill(hole, (columns.start, rows.start), mask.shape)
        mask |= piece
    return Nucleus(outline.where, (rows, columns), mask)


def _span(low: float, high: float, length: int) -> slice:
    return slice(max(math.floor(low), 0), min(math.ceil(high), length))


def _fill(points: NDArray[np.float64], origin: Sequence[int], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    from skimage.draw import polygon

    x, y = (points - np.asarray(origin) - 0.5).T  # scikit-image asks whether whole numbers lie within
    mask = np.zeros(shape, np.bool_)
    mask[polygon(y, x, shape)] = True
    return mask
