"""Leaves nuclei out by their size or score, or because the edge of the image may cut them; numbers the others anew."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np

from nuclei_runtime.arrays import Labels
from nuclei_runtime.errors import ArgumentError, ImageValueError
from nuclei_runtime.steps.physical import ROUNDING
from nuclei_runtime.steps.score import Scores

PX, UM2 = "px", "um2"
_AREA = re.compile(r"(\d+(?:\.\d+)?) ?(px|[uµ\u03bc]m[2²])", re.ASCII)


@dataclass(frozen=True)
class Area:
    """An area in pixels or in square micrometres.

    Attributes
    ----------
    value : float
    unit : str
        `PX` or `UM2`.
    """

    value: float
    unit: str

    def __str__(self) -> str:
        return f"{self.value:g}{self.unit}"


def parse_area(text: str) -> Area:
    """Return the area that a text such as ``50px`` or ``30um2`` names.

    Raises
    ------
    ArgumentError
        It names none.
    """
    found = _AREA.fullmatch(text.strip())
    if found is None:
        raise ArgumentError(
            f"area {text!r}: expected a number with its unit, pixels or square micrometres, such as 50px or 30um2"
        )
    return Area(float(found[1]), PX if found[2] == PX else UM2)


@dataclass(frozen=True)
class Sieve:
    """Which nuclei are kept.

    Attributes
    ----------
    exclude_border : bool
        Leave out nuclei with a pixel on the edge of the image.
    min_area, max_area : Area, optional
        Leave out nuclei that are smaller, or larger.
    min_score : float, optional
        Leave out nuclei with a smaller score, 0 to 1; see `nuclei_runtime.steps.score`.

    Raises
    ------
    ArgumentError
        No area is in the range.
    """

    exclude_border: bool = False
    min_area: Area | None = None
    max_area: Area | None = None
    min_score: float | None = None

    def __post_init__(self) -> None:
        low, high = self.min_area, self.max_area
        if low is not None and high is not None and low.unit == high.unit and low.value > high.value:
            raise ArgumentError(
                f"the minimum area {low} is larger than the maximum area {high}, so no nucleus would be left"
            )

    @property
    def is_open(self) -> bool:
        """Whether all nuclei are kept."""
        return self == Sieve()


@dataclass
class Sifting:
    """Sifts the nuclei of one plane, block by block.

    Parameters
    ----------
    sieve : Sieve
    shape : tuple of int
        Height and width of the plane.
    pixel_size_um : (float, float), optional

    Attributes
    ----------
    n_kept : int
        So far.

    Raises
    ------
    ImageValueError
        An area is in micrometres, and the size of a pixel is not known.
    """

    sieve: Sieve
    shape: tuple[int, ...]
    pixel_size_um: tuple[float, float] | None
    n_kept: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        for option, area in (("--min-area", self.sieve.min_area), ("--max-area", self.sieve.max_area)):
            if area is not None and area.unit == UM2 and self.pixel_size_um is None:
                raise ImageValueError(
                    f"the option {option} {area} needs the pixel size, which the file does not state: give it with "
                    "--pixel-size (pixel_size_um in Python), or give the area in pixels"
                )

    def sift(
        self,
        labels: Labels,
        origin: tuple[int, int] = (0, 0),
        scores: Scores | None = None,
        *,
        keep_numbers: bool = False,
    ) -> tuple[Labels, Scores | None, int]:
        """Return the nuclei that are kept, numbered on from those of earlier blocks, and how many are left out.

        Parameters
        ----------
        labels : (h, w) ndarray of int32
            Complete nuclei of a block.
        origin : (int, int)
            Row and column of the plane where the block begins.
        scores : (n,) ndarray of float64, optional
            Of the nuclei, in the order of their numbers. A minimum score needs them.
        keep_numbers : bool
            Whether the nuclei keep the numbers that they have.

        Returns
        -------
        labels : (h, w) ndarray of int32
        scores : (m,) ndarray of float64 or None
            Of the nuclei that are kept.
        n_left_out : int
        """
        if self.sieve.is_open:
            return labels, scores, 0
        areas = np.bincount(labels.ravel())
        areas[0] = 0
        is_kept = areas > 0
        found = np.flatnonzero(is_kept)
        if (smallest := self.sieve.min_area) is not None:
            is_kept &= areas * self._unit(smallest) >= smallest.value * (1 - ROUNDING)
        if (largest := self.sieve.max_area) is not None:
            is_kept &= areas * self._unit(largest) <= largest.value * (1 + ROUNDING)
        if self.sieve.exclude_border:
            is_kept[self._on_the_edges(labels, origin)] = False
        if self.sieve.min_score is not None and scores is not None:
            is_kept[found[scores < self.sieve.min_score]] = False
        new = np.arange(is_kept.size) if keep_numbers else self.n_kept + np.cumsum(is_kept)
        numbers = np.where(is_kept, new, 0).astype(labels.dtype)
        n_kept = int(np.count_nonzero(is_kept))
        self.n_kept += n_kept
        return numbers[labels], None if scores is None else scores[is_kept[found]], found.size - n_kept

    def _unit(self, area: Area) -> float:
        """Return how large a pixel is in the unit of an area."""
        if area.unit == PX or self.pixel_size_um is None:
            return 1.0
        height, width = self.pixel_size_um
        return height * width

    def _on_the_edges(self, labels: Labels, origin: tuple[int, int]) -> Labels:
        edges = []
        for axis, (start, length) in enumerate(zip(origin, self.shape, strict=False)):
            lines = np.moveaxis(labels, axis, 0)
            edges += [lines[:1]] if start == 0 else []
            edges += [lines[-1:]] if start + len(lines) == length else []
        return np.concatenate([edge.ravel() for edge in edges]) if edges else np.zeros(0, labels.dtype)
