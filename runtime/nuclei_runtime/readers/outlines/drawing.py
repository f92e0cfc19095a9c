"""Outlines of nuclei as polygons, and the label image that they cover."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.arrays import MAX_GIVEN_LABEL, Labels
from nuclei_runtime.errors import ImageValueError
from nuclei_runtime.wording import counted

_NUMBER = re.compile("[1-9][0-9]{0,7}")


@dataclass(frozen=True, eq=False)
class Outline:
    """The outline of one nucleus, which may have holes and consist of several pieces.

    Attributes
    ----------
    rings : tuple of (K, 2) ndarray of float64
        Polygons of (row, column), closed or not. Whole numbers are the corners of pixels: the pixel in row 0 and column
        0 covers the square from 0 to 1. What an odd number of rings encloses belongs to the nucleus.
    name : str
    time, z : int, optional
        The plane that it was drawn on, from 0; None if the file does not say.
    place : int, optional
        Instead of these, the place of this plane in a stack, from 0, of whatever dimension the planes are.
    place_in_name : int, optional
        This place where only the name of the outline tells it. In a hyperstack, it counts over all dimensions.
    """

    rings: tuple[NDArray[np.float64], ...]
    name: str = ""
    time: int | None = None
    z: int | None = None
    place: int | None = None
    place_in_name: int | None = None

    @cached_property
    def box(self) -> tuple[float, float, float, float]:
        """Top, left, bottom and right."""
        points = np.concatenate(self.rings)
        (top, left), (bottom, right) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
        return top, left, bottom, right

    @cached_property
    def area(self) -> float:
        """Area of the largest ring, without regard to holes (Gauss's shoelace formula)."""
        return max(abs(float(np.sum(_turned(ring)))) / 2 for ring in self.rings)

    def mask(self, rows: slice, columns: slice) -> NDArray[np.bool_]:
        """Return which pixels of a window have their centre inside.

        A centre that lies on the outline counts if the inside is to the right of it or below, as in Java and so in
        ImageJ and QuPath ("Definition of Insideness", java.awt.Shape): a pixel between two neighbours belongs to one of
        them, which point tests that count all edges, as scikit-image's, do not give.
        """
        height, width = rows.stop - rows.start, columns.stop - columns.start
        starts = np.concatenate(self.rings) - (rows.start + 0.5, columns.start + 0.5)
        ends = np.concatenate([np.roll(ring, -1, axis=0) for ring in self.rings]) - (
            rows.start + 0.5,
            columns.start + 0.5,
        )
        is_down = starts[:, :1] <= ends[:, :1]
        upper, lower = np.where(is_down, starts, ends), np.where(is_down, ends, starts)
        first, last = (np.clip(np.ceil(end[:, 0]), 0, height).astype(np.intp) for end in (upper, lower))
        n_rows = last - first
        edge = np.repeat(np.arange(len(n_rows)), n_rows)
        down = np.arange(edge.size) - np.repeat(np.cumsum(n_rows) - n_rows - first, n_rows)
        slope = (lower[edge, 1] - upper[edge, 1]) / (lower[edge, 0] - upper[edge, 0])
        at = np.clip(np.ceil(upper[edge, 1] + (down - upper[edge, 0]) * slope), 0, width).astype(np.intp)
        crossings = np.bincount(down * (width + 1) + at, minlength=height * (width + 1)).reshape(height, width + 1)
        return np.asarray(np.cumsum(crossings[:, :width], axis=1) % 2 == 1)


def _turned(ring: NDArray[np.float64]) -> NDArray[np.float64]:
    following = np.roll(ring, -1, axis=0)
    return np.asarray(ring[:, 0] * following[:, 1] - ring[:, 1] * following[:, 0])


@dataclass(frozen=True, eq=False)
class Outlines:
    """The outlines in a file.

    Attributes
    ----------
    outlines : tuple of Outline
    left_out : tuple of str
        One sentence for each kind of object in the file that is no nucleus.
    n_without_area : int
        How many of these are points, lines or other objects without an area, which may mark nuclei nobody outlined.
    of_finest : bool
        Whether the outlines are in pixels of the finest resolution that the image is stored at, and not in those of the
        one that they were drawn on.
    """

    outlines: tuple[Outline, ...]
    left_out: tuple[str, ...] = ()
    n_without_area: int = 0
    of_finest: bool = False

    def at(self, downsample: tuple[float, float]) -> Outlines:
        """Return the outlines in pixels of a resolution that is this much lower than the finest in height and width."""
        if not self.of_finest or downsample == (1, 1):
            return self
        return replace(
            self,
            outlines=tuple(
                replace(outline, rings=tuple(ring / downsample for ring in outline.rings)) for outline in self.outlines
            ),
        )

    @property
    def n_outlines(self) -> int:
        """How many nuclei are outlined."""
        return len(self.outlines)

    @cached_property
    def _largest_first(self) -> list[int]:
        return sorted(range(len(self.outlines)), key=lambda index: -self.outlines[index].area)

    @cached_property
    def numbers(self) -> tuple[int, ...]:
        """The number of each outline.

        A name that is a number is the nucleus's number, as this project's own files have it. Any other outline, and a
        second one with the same name, gets a number above all these, in the order of the file. So does one whose name
        is no number of a nucleus but, for example, a date: none is above `MAX_GIVEN_LABEL`.
        """
        largest = MAX_GIVEN_LABEL - self.n_outlines
        numbers: dict[int, int] = {}  # the place of each
        for place, outline in enumerate(self.outlines):
            if _NUMBER.fullmatch(outline.name) and int(outline.name) <= largest:
                numbers.setdefault(int(outline.name), place)
        by_place = {place: number for number, place in numbers.items()}
        following = count(max(numbers, default=0) + 1)
        return tuple(by_place.get(place) or next(following) for place in range(len(self.outlines)))

    def labels(self, shape: tuple[int, int]) -> Labels:
        """Draw the label image of a whole plane.

        Parameters
        ----------
        shape : (int, int)
            Height and width of the image.

        Returns
        -------
        (H, W) ndarray of int32
            0 background. A pixel belongs to a nucleus if its centre lies inside the outline; if it lies in several,
            to the smallest of them.

        Raises
        ------
        ImageValueError
            See `check`.
        """
        self.check(shape)
        return self.read(slice(0, shape[0]), slice(0, shape[1]))

    def check(self, shape: tuple[int, ...]) -> None:
        """Refuse outlines that do not fit an image of this size.

        Raises
        ------
        ImageValueError
            An outline lies outside the image.
        """
        height, width = shape[:2]
        outside = [
            number
            for outline, number in zip(self.outlines, self.numbers, strict=True)
            if (box := outline.box) and not (box[0] < height and box[1] < width and box[2] > 0 and box[3] > 0)
        ]
        if outside:
            raise ImageValueError(
                f"{counted(len(outside), 'outline')} of {self.n_outlines} (the first is number {outside[0]}) lie "
                f"outside the image of {height} x {width} pixels; outlines are in pixels of the whole image: were they "
                "drawn on another one, or saved in micrometres?"
            )

    def read(self, rows: slice, columns: slice) -> Labels:
        """Draw a window of the label image; see `labels`."""
        labels = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.int32)
        for index in self._largest_first:
            top, left, bottom, right = self.outlines[index].box
            inner = (
                slice(max(int(np.floor(top)), rows.start), min(int(np.ceil(bottom)), rows.stop)),
                slice(max(int(np.floor(left)), columns.start), min(int(np.ceil(right)), columns.stop)),
            )
            if all(span.start < span.stop for span in inner):
                place = tuple(
                    slice(span.start - whole.start, span.stop - whole.start)
                    for span, whole in zip(inner, (rows, columns), strict=True)
                )
                labels[place][self.outlines[index].mask(*inner)] = self.numbers[index]
        return labels
