"""A plane of any size -> its nuclei, block by block, each nucleus whole and once.

The plane is cut into squares, the cores of the blocks. The nuclei of a block are those whose seed begins in its core
(`nuclei_runtime.steps.windows`); they are found in a window around the core, which grows until it holds them wholly.
Nuclei depend only on the connected piece of foreground that they lie in, so that what a window holds wholly comes out
as in the whole image. In foreground that is connected beyond the window, a border between two nuclei may come out
otherwise near the window's edge; still each seed gives one nucleus, in the block that it begins in, and a pixel that
a block has given to its nuclei is taken: the nuclei of later blocks grow around it, and what they cannot reach any
more stays without a nucleus.

The cuts do not depend on the memory, nor do the maps (`nuclei_runtime.steps.tiling`): the same plane and model give
the same nuclei with the same numbers wherever there is memory enough.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nuclei_runtime.arrays import Image, Labels
from nuclei_runtime.errors import ImageError
from nuclei_runtime.readers.plane import Plane
from nuclei_runtime.segmentation.memory import Budget
from nuclei_runtime.segmentation.plane_input import regions
from nuclei_runtime.segmentation.plane_maps import PlaneMaps
from nuclei_runtime.segmentation.spool import Spool
from nuclei_runtime.steps.instances import find_instances
from nuclei_runtime.steps.step import Step
from nuclei_runtime.steps.windows import CutNucleusError, Window

if TYPE_CHECKING:
    from nuclei_runtime.segmentation.segmenter import Segmenter


@dataclass(frozen=True, eq=False)
class Block:
    """A window of a plane with the nuclei that belong to it.

    Attributes
    ----------
    rows, columns : slice
        Where the window lies in the plane. Windows overlap; together they cover the plane.
    image : ndarray
        The plane's pixels in the window.
    labels : (h, w) ndarray of int32
        The nuclei that belong to this block, each whole, with the numbers that they have in the plane: over all
        blocks 1..N without gaps, in the order in which the blocks come. Pixels of other blocks' nuclei are 0.
    """

    rows: slice
    columns: slice
    image: Image
    labels: Labels


@dataclass(frozen=True)
class Grid:
    """How a plane is cut into blocks, in pixels.

    Attributes
    ----------
    core_px : int
        Side of a block's core. A plane no larger is one block.
    margin_px : int
        What a window sees beyond its core on each side: several nuclei.
    max_margin_px : int
        How far a window grows, in steps of twice the margin: what reaches further is no nucleus.
    """

    core_px: int = 1024
    margin_px: int = 256
    max_margin_px: int = 2048


GRID = Grid()


def segment_plane(
    plane: Plane, segmenter: Segmenter, *, max_memory: int | None = None, grid: Grid = GRID
) -> Iterator[Block]:
    """Find the nuclei of a plane.

    Parameters
    ----------
    plane : Plane
    segmenter : Segmenter
    max_memory : int, optional
        Ceiling in bytes for the resident memory of this process; without it half of what there is.
    grid : Grid
        Other than the default for tests: the numbers of the nuclei depend on it.

    Raises
    ------
    ImageTooLargeError
        The plane cannot be segmented within the ceiling; raised before it is read where that can be told.
    ImageError
        The plane cannot be read or segmented.
    """
    budget = Budget(plane, max_memory, segmenter.magnification)
    tiling = segmenter.tiling
    height, width = plane.shape[:2]
    if tiling is None:
        budget.check_whole()
        image = plane.read(slice(0, height), slice(0, width))
        yield Block(slice(0, height), slice(0, width), image, segmenter.segment(image).labels)
        return
    tiling = budget.tiling(tiling, grid.core_px + 2 * grid.margin_px)
    spool_bytes = budget.spool_bytes
    count = 0
    with (
        PlaneMaps(plane, segmenter.card, segmenter.run, tiling, memory_bytes=spool_bytes) as maps,
        Spool(np.bool_, memory_bytes=spool_bytes) as taken,
    ):
        search = _Search(maps, taken, segmenter.postprocessing, (height, width), grid, budget)
        for core_rows, core_columns in regions(plane.shape, grid.core_px):
            for spool in (maps, taken):
                spool.drop_rows(core_rows.start - grid.max_margin_px)
            rows, columns, labels = search.find(core_rows, core_columns)
            found = labels > 0
            taken.write(rows, columns, found, found)
            n_found = int(labels.max())
            labels[found] += count
            count += n_found
            yield Block(rows, columns, plane.read(rows, columns), labels)


@dataclass(frozen=True)
class _Search:
    """Finds the nuclei that belong to a core."""

    maps: PlaneMaps
    taken: Spool
    method: Step
    shape: tuple[int, int]
    grid: Grid
    budget: Budget

    def find(self, core_rows: slice, core_columns: slice) -> tuple[slice, slice, Labels]:
        """Return the nuclei of a core, 1..n, in the smallest window that holds the core and them."""
        margin = self.grid.margin_px
        while True:
            rows, columns = (
                slice(max(core.start - margin, 0), min(core.stop + margin, length))
                for core, length in zip((core_rows, core_columns), self.shape, strict=True)
            )
            self.budget.check_window(rows.stop - rows.start, columns.stop - columns.start)
            try:
                labels = find_instances(
                    self.maps.read(rows, columns), self.method, self._window(rows, columns, core_rows, core_columns)
                )
                break
            except CutNucleusError:
                margin *= 2
            if margin > self.grid.max_margin_px:
                raise ImageError(
                    f"what counts as one nucleus reaches more than {self.grid.max_margin_px} pixels beyond rows "
                    f"{core_rows.start} to {core_rows.stop}, columns {core_columns.start} to {core_columns.stop}; "
                    "look what lies there, and whether --diameter is how large the nuclei are"
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
        return kept[0], kept[1], labels[inner]

    def _window(self, rows: slice, columns: slice, core_rows: slice, core_columns: slice) -> Window:
        height, width = self.shape
        core = (
            slice(core_rows.start - rows.start, core_rows.stop - rows.start),
            slice(core_columns.start - columns.start, core_columns.stop - columns.start),
        )
        is_cut = (rows.start > 0, rows.stop < height, columns.start > 0, columns.stop < width)
        return Window(core, is_cut, self.taken.read(rows, columns))
