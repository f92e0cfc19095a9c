"""The maps of a plane as it is shown to a network: who computes them, and what may be kept of them in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

from nuclei_runtime.segmentation.block_search import MapsSource
from nuclei_runtime.segmentation.choice import Shown
from nuclei_runtime.segmentation.memory import Budget
from nuclei_runtime.segmentation.plane_maps import PlaneMaps
from nuclei_runtime.segmentation.plane_tiles import Cut, Helpers, OwnTiles, TaskMaker, Tiles
from nuclei_runtime.steps.instances import METHODS


@contextmanager
def open_maps(
    shown: Shown, budget: Budget, window_px: int, windows: Iterable[tuple[slice, slice]], helpers: Helpers | None
) -> Iterator[MapsSource]:
    """Open the maps of a plane, which are computed where they are read, from the top down.

    Parameters
    ----------
    shown : Shown
        Its network is one for images of any size.
    budget : Budget
        Of the plane.
    window_px : int
        Side of the windows in which nuclei are found, in pixels.
    windows : iterable of (slice, slice)
        Those that will be read, in this order. Others may be read too.
    helpers : Helpers, optional
        Others that compute tiles.

    Raises
    ------
    ImageTooLargeError
        Even the smallest tiles do not fit.
    """
    network, plane_input = shown.network, shown.plane_input
    budget = budget.of(network)
    assert network.tiling is not None  # every view of a network for any size has one
    cut = Cut(plane_input.shape, tiling := budget.tiling(network.tiling, window_px))
    n_maps = len(METHODS[network.postprocessing.id].maps)
    with ExitStack() as opened:
        tiles: Tiles = OwnTiles(plane_input.read, network, plane_input.shape)
        if helpers is not None:
            task_of = TaskMaker(plane_input, network.view, n_maps, budget.tile_bytes(plane_input.shape, tiling))
            tiles = opened.enter_context(helpers.tiles(cut.in_order(windows), task_of, network))
        yield opened.enter_context(PlaneMaps(cut, tiles, n_maps, memory_bytes=budget.in_memory_bytes))
