"""The nuclei of a plane of any size, block by block: each nucleus is complete and appears once.

The plane is cut into squares, the cores of the blocks. The nuclei of a block are those whose seed begins in its core
(see `nuclei_runtime.steps.windows`). They are found in a window around the core, which grows until it contains them
completely.

A nucleus depends only on the connected piece of foreground that it lies in. If a window contains the whole piece, its
nuclei are the same as in the whole image. If the piece extends beyond the window, a border between two nuclei may
differ near the window's edge. Even then, each seed gives one nucleus, in the block where the seed begins. Pixels that
one block has assigned are taken: the nuclei of later blocks grow around them, and foreground that they can no longer
reach stays without a nucleus.

Neither the cuts nor the maps (see `nuclei_runtime.steps.tiling`) depend on the memory: the same plane and model give
the same nuclei with the same numbers on every machine with enough memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.arrays import Image, Labels, Maps
from nuclei_runtime.errors import ImageError
from nuclei_runtime.faults import allocating_for
from nuclei_runtime.readers.plane import Plane
from nuclei_runtime.segmentation.cancelling import CancelFlag, cancellable
from nuclei_runtime.segmentation.choice import choose_view
from nuclei_runtime.segmentation.memory import Budget
from nuclei_runtime.segmentation.network import Network
from nuclei_runtime.segmentation.plane_input import regions
from nuclei_runtime.segmentation.plane_maps import PlaneMaps, resized_maps
from nuclei_runtime.segmentation.scratch_raster import ScratchRaster
from nuclei_runtime.steps.contrast import Contrast
from nuclei_runtime.steps.instances import METHODS, find_instances
from nuclei_runtime.steps.sieve import Sifting
from nuclei_runtime.steps.step import Step
from nuclei_runtime.steps.view import AS_IT_IS, View
from nuclei_runtime.steps.windows import CutNucleusError, Window


@dataclass(frozen=True, eq=False)
class Block:
    """A window of a plane, and the nuclei that belong to it.

    Attributes
    ----------
    rows, columns : slice
        Where the window lies in the plane. Windows overlap; together they cover the plane.
    image : ndarray
        The plane's pixels in the window.
    labels : (h, w) ndarray of int32
        The nuclei that belong to this block, each complete, with their numbers in the plane. Over all blocks, the
        numbers are 1..N without gaps, in the order of the blocks. Pixels of other blocks' nuclei are 0.
    contrast : Contrast, optional
        The contrast that the whole plane was given; None if the model's card does not set it first.
    view : View
        How the network was shown the plane; the same for all blocks of a plane.
    expected_ap : float, optional
        AP@0.5 that the view promised, 0 to 1; None if no view was chosen. The same for all blocks of a plane.
    n_left_out : int
        Nuclei of this block that the sieve of the network left out.
    left_out : (h, w) ndarray of bool, optional
        Their pixels; None if there are none.
    """

    rows: slice
    columns: slice
    image: Image
    labels: Labels
    contrast: Contrast | None = None
    view: View = AS_IT_IS
    expected_ap: float | None = None
    n_left_out: int = 0
    left_out: NDArray[np.bool_] | None = None


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


GRID = Grid()


def segment_plane(
    plane: Plane,
    network: Network,
    *,
    max_memory: int | None = None,
    cancel: CancelFlag | None = None,
    grid: Grid = GRID,
) -> Iterator[Block]:
    """Find the nuclei of a plane.

    Parameters
    ----------
    plane : Plane
    network : Network
        `Segmenter.network`.
    max_memory : int, optional
        Ceiling in bytes for the resident memory of this process. Without it, half of what there is.
    cancel : CancelFlag, optional
        Once it is set, the segmentation ends before the next tile.
    grid : Grid
        Only tests change it: the numbers of the nuclei depend on it.

    Raises
    ------
    ImageTooLargeError
        The plane cannot be segmented within the ceiling. If possible, this is raised before the plane is read.
    ImageError
        The plane cannot be read or segmented, or does not state the size of a pixel that the sieve needs.
    SegmentationCancelledError
        The flag was set.
    """
    with allocating_for(plane.shape):
        sifting = Sifting(network.sieve, plane.shape, plane.pixel_size_um)
        for block in _segment(cancellable(plane, cancel), network, max_memory, grid):
            labels, n_left_out = sifting.sift(block.labels, (block.rows.start, block.columns.start))
            left_out = (block.labels > 0) & (labels == 0) if n_left_out else None
            yield replace(block, labels=labels, n_left_out=n_left_out, left_out=left_out)


def _segment(plane: Plane, network: Network, max_memory: int | None, grid: Grid) -> Iterator[Block]:
    height, width = plane.shape[:2]
    whole = slice(0, height), slice(0, width)
    if network.tiling is None:
        Budget(plane, max_memory, network).check_whole()
        image = plane.read(*whole)
        found, contrast = resized_maps(image, network)
        yield Block(*whole, image, label_maps(found, network), contrast)
        return
    budget = Budget(plane, max_memory, network)
    budget.tiling(network.tiling, grid.window_px)  # refused before it is read
    shown = choose_view(plane, network, budget, grid.core_px)
    network, expected_ap, contrast = shown.network, shown.expected_ap, shown.plane_input.contrast
    if shown.labels is not None:
        yield Block(*whole, plane.read(*whole), shown.labels, contrast, network.view, expected_ap)
        return
    budget = budget.of(network)
    assert network.tiling is not None  # every view of a network for any size has one
    tiling = budget.tiling(network.tiling, grid.window_px)
    method = network.postprocessing
    n_maps, memory_bytes = len(METHODS[method.id].maps), budget.in_memory_bytes
    read = shown.plane_input.read
    with (
        PlaneMaps((height, width), read, network, tiling, n_maps, memory_bytes=memory_bytes) as maps,
        ScratchRaster(np.bool_, memory_bytes=memory_bytes) as taken,
    ):
        search = _Search(maps, taken, method, (height, width), grid, budget.check_window)
        for rows, columns, labels in search.find_all():
            yield Block(rows, columns, plane.read(rows, columns), labels, contrast, network.view, expected_ap)


def label_maps(maps: Maps, network: Network, grid: Grid = GRID) -> Labels:
    """Label the nuclei in the maps of a whole image. The labels are those of `segment_plane` without a sieve.

    Parameters
    ----------
    maps : (H, W, M) ndarray of float32 in [0, 1]
        See `nuclei_runtime.segmentation.plane_maps.image_maps`.
    network : Network
        The one that the maps are from.
    grid : Grid
        See `segment_plane`.

    Returns
    -------
    (H, W) ndarray of int32
        0 background, 1..N.

    Raises
    ------
    ImageError
        A nucleus is larger than any window may be.
    """
    method = network.postprocessing
    if network.tiling is None:
        return find_instances(maps, method)
    height, width = maps.shape[:2]
    labels = np.zeros((height, width), np.int32)
    with ScratchRaster(np.bool_, memory_bytes=maps.nbytes) as taken:
        search = _Search(_WholeMaps(maps), taken, method, (height, width), grid, lambda *_: None)
        for rows, columns, found in search.find_all():
            labels[rows, columns] += found
    return labels


class _MapsSource(Protocol):
    """Maps that are read window by window, from the top down."""

    def read(self, rows: slice, columns: slice) -> Maps: ...

    def drop_rows(self, stop: int) -> None: ...


@dataclass(frozen=True, eq=False)
class _WholeMaps:
    """Maps that are all in memory."""

    maps: Maps

    def read(self, rows: slice, columns: slice) -> Maps:
        return self.maps[rows, columns]

    def drop_rows(self, stop: int) -> None:
        """Do nothing: the rows belong to the caller."""


@dataclass(frozen=True, eq=False)
class _Search:
    """Finds the nuclei of a plane, core by core."""

    maps: _MapsSource
    taken: ScratchRaster
    method: Step
    shape: tuple[int, int]
    grid: Grid
    check_window: Callable[[int, int], None]

    def find_all(self) -> Iterator[tuple[slice, slice, Labels]]:
        """Yield, for each core, a window and the nuclei that belong to it, with their numbers in the plane."""
        count = 0
        for core_rows, core_columns in regions(self.shape, self.grid.core_px):
            for raster in (self.maps, self.taken):
                raster.drop_rows(core_rows.start - self.grid.max_margin_px)
            rows, columns, labels = self.find(core_rows, core_columns)
            found = labels > 0
            self.taken.write(rows, columns, found, found)
            n_found = int(labels.max())
            labels[found] += count
            count += n_found
            yield rows, columns, labels

    def find(self, core_rows: slice, core_columns: slice) -> tuple[slice, slice, Labels]:
        """Return the nuclei of a core, 1..n, in the smallest window that contains the core and the nuclei."""
        margin = self.grid.margin_px
        while True:
            rows, columns = (
                slice(max(core.start - margin, 0), min(core.stop + margin, length))
                for core, length in zip((core_rows, core_columns), self.shape, strict=True)
            )
            self.check_window(rows.stop - rows.start, columns.stop - columns.start)
            try:
                labels = find_instances(
                    self.maps.read(rows, columns), self.method, self._window(rows, columns, core_rows, core_columns)
                )
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
        return kept[0], kept[1], labels[inner]

    def _window(self, rows: slice, columns: slice, core_rows: slice, core_columns: slice) -> Window:
        height, width = self.shape
        core = (
            slice(core_rows.start - rows.start, core_rows.stop - rows.start),
            slice(core_columns.start - columns.start, core_columns.stop - columns.start),
        )
        is_cut = (rows.start > 0, rows.stop < height, columns.start > 0, columns.stop < width)
        return Window(core, is_cut, self.taken.read(rows, columns))
