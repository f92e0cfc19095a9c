"""Finds the nuclei in the maps of a plane, core by core.

The plane is cut into squares, the cores of the blocks. The nuclei of a block are those whose seed begins in its core
(see `nuclei_runtime.steps.windows`). They are found in a window around the core, which grows until it contains them
completely.

A nucleus depends only on the connected piece of foreground that it lies in. If a window contains the whole piece, its
nuclei are the same as in the whole image. If the piece extends beyond the window, a border between two nuclei may
differ near the window's edge. Even then, each seed gives one nucleus, in the block where the seed begins. Pixels that
one block has assigned are taken: the nuclei of later blocks grow around them, and foreground that they can no longer
reach stays without a nucleus.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from nuclei_runtime.arrays import Maps
from nuclei_runtime.errors import ImageError
from nuclei_runtime.segmentation.kept_blocks import Found, KeptBlocks
from nuclei_runtime.segmentation.scratch_raster import ScratchRaster
from nuclei_runtime.steps.instances import find_instances
from nuclei_runtime.steps.score import NO_SIGNS, nucleus_signs
from nuclei_runtime.steps.step import Step
from nuclei_runtime.steps.windows import CutNucleusError, Window


@dataclass(frozen=True)
class Grid:
    """How a plane is cut into blocks, in pixels.

    Attributes
    ----------
    core_px : int
        Side of a block's core. A plane that is not larger is one block.
    margin_px : int
        How far a window extends beyond its core on each side: several nuclei.
    max_margin_px : int
        How far the margin may grow, doubling each time. Anything larger is not a nucleus.
    """

    core_px: int = 1024
    margin_px: int = 256
    max_margin_px: int = 2048

    @property
    def window_px(self) -> int:
        """Side of the first window that is tried for a core."""
        return self.core_px + 2 * self.margin_px

    def window(
        self, core: tuple[slice, slice], shape: tuple[int, int], margin_px: int | None = None
    ) -> tuple[slice, slice]:
        """Return the window around a core within a plane of this shape, the first one if no margin is given."""
        margin = self.margin_px if margin_px is None else margin_px
        rows, columns = (
            slice(max(part.start - margin, 0), min(part.stop + margin, length))
            for part, length in zip(core, shape, strict=True)
        )
        return rows, columns


GRID = Grid()


class MapsSource(Protocol):
    """Maps that are read window by window, from the top down."""

    def read(self, rows: slice, columns: slice) -> Maps:
        """Return the maps of a window."""

    def drop_rows(self, stop: int) -> None:
        """Forget the rows before `stop`."""


@dataclass(frozen=True, eq=False)
class WholeMaps:
    """Maps that are all in memory."""

    maps: Maps

    def read(self, rows: slice, columns: slice) -> Maps:
        """Return the maps of a window."""
        return self.maps[rows, columns]

    def drop_rows(self, stop: int) -> None:
        """Do nothing: the rows belong to the caller."""


@dataclass(frozen=True, eq=False)
class BlockSearch:
    """Finds the nuclei of a plane, core by core, and their signs if these are asked for."""

    maps: MapsSource
    taken: ScratchRaster
    method: Step
    shape: tuple[int, int]
    grid: Grid
    check_window: Callable[[int, int], None]
    kept: KeptBlocks
    has_signs: bool = False

    def find_all(self, cores: Iterable[tuple[slice, slice]]) -> Iterator[Found]:
        """Yield, for each core, a window and the nuclei that belong to it, with their numbers in the plane."""
        count = 0
        for core_rows, core_columns in cores:
            for raster in (self.maps, self.taken):
                raster.drop_rows(core_rows.start - self.grid.max_margin_px)
            known = self.kept.take()
            found = known or self.find(core_rows, core_columns)
            is_nucleus = found.labels > 0
            self.taken.write(found.rows, found.columns, is_nucleus, is_nucleus)
            if known is None:
                found.labels[is_nucleus] += count
                self.kept.add(found)
            count = max(count, int(found.labels.max()))
            yield found

    def find(self, core_rows: slice, core_columns: slice) -> Found:
        """Return the nuclei of a core, 1..n, in the smallest window that contains the core and the nuclei."""
        margin = self.grid.margin_px
        while True:
            rows, columns = self.grid.window((core_rows, core_columns), self.shape, margin)
            self.check_window(rows.stop - rows.start, columns.stop - columns.start)
            try:
                maps = self.maps.read(rows, columns)
                labels = find_instances(maps, self.method, self._window(rows, columns, core_rows, core_columns))
                break
            except CutNucleusError:
                margin *= 2
            if margin > self.grid.max_margin_px:
                raise ImageError(
                    f"one nucleus extends more than {self.grid.max_margin_px} pixels beyond rows "
                    f"{core_rows.start} to {core_rows.stop}, columns {core_columns.start} to {core_columns.stop}; "
                    "look at that part of the image, and check that --diameter is the size of the nuclei"
                )
        kept = [
            slice(min(core.start, window.start + int(found[0])), max(core.stop, window.start + int(found[-1]) + 1))
            if (found := np.flatnonzero(labels.any(axis=axis))).size
            else core
            for core, window, axis in ((core_rows, rows, 1), (core_columns, columns, 0))
        ]
        inner = tuple(
            slice(part.start - window.start, part.stop - window.start)
            for part, window in zip(kept, (rows, columns), strict=True)
        )
        # In the whole window: no nucleus touches an edge of it beyond which the plane goes on.
        signs = nucleus_signs(maps, labels) if self.has_signs else NO_SIGNS
        return Found(kept[0], kept[1], labels[inner], signs)

    def _window(self, rows: slice, columns: slice, core_rows: slice, core_columns: slice) -> Window:
        height, width = self.shape
        core = (
            slice(core_rows.start - rows.start, core_rows.stop - rows.start),
            slice(core_columns.start - columns.start, core_columns.stop - columns.start),
        )
        is_cut = (rows.start > 0, rows.stop < height, columns.start > 0, columns.stop < width)
        return Window(core, is_cut, self.taken.read(rows, columns))
