"""What an annotation file says about one image: its nuclei, one by one, and what in it is no nucleus."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.arrays import Labels

NO_OUTLINE = "object without an outline"
OUTSIDE = "outline outside the image"
NOT_COUNTED = "object that is no nucleus"
"""Kinds of objects that become no nucleus; the other kinds are in `nuclei_train.data.oddities`."""

Window = tuple[slice, slice]

NOWHERE: Window = (slice(0, 0), slice(0, 0))


@dataclass(frozen=True)
class Nucleus:
    """One annotated nucleus.

    Attributes
    ----------
    where : str
        Where it is annotated, for messages: the file and, if it holds several nuclei, which one.
    window : tuple of slice
        The rows and columns of the image that `mask` stands for.
    mask : (h, w) ndarray of bool
        Without any pixel if the annotation is empty.
    """

    where: str
    window: Window
    mask: NDArray[np.bool_]


@dataclass(frozen=True)
class LeftOut:
    """An object that becomes no nucleus.

    Attributes
    ----------
    kind : str
        `NO_OUTLINE`, `OUTSIDE` or `NOT_COUNTED`.
    detail : str
        Which object in which file, and why.
    """

    kind: str
    detail: str


@dataclass(frozen=True)
class Drawing:
    """The annotation of one image by one file.

    Attributes
    ----------
    shape : tuple of int
        Height and width, as the file has them; those of the image if the file does not say.
    nuclei : iterable of Nucleus
        In the order in which they get their numbers. Can be iterated once.
    left_out : tuple of LeftOut
    """

    shape: tuple[int, int]
    nuclei: Iterable[Nucleus]
    left_out: tuple[LeftOut, ...] = ()

    def paint(self, labels: Labels, count: int) -> int:
        """Number the nuclei in a label image of this shape, from `count` + 1 on, and return the last number.

        A pixel that is already taken keeps its number. A nucleus without a free pixel gets none.
        """
        for nucleus in self.nuclei:
            part = labels[nucleus.window]
            free = nucleus.mask & (part == 0)
            if free.any():
                count += 1
                part[free] = count
        return count


@dataclass(frozen=True)
class AnnotationFile:
    """An annotation file, as its reader gets it.

    Attributes
    ----------
    name : str
        Without its folder.
    content : bytes
    image_name : str
        The file of the image within the data set, with ``/``: a file with the nuclei of many images needs it.
    image_size : callable
        Returns the height and width of the image; outlines do not know them. Raises what reading an image raises.
    """

    name: str
    content: bytes
    image_name: str
    image_size: Callable[[], tuple[int, int]]


def bounds(mask: NDArray[np.bool_]) -> Window:
    """Return the smallest window that contains a mask; `NOWHERE` if it is empty."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        return NOWHERE
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
