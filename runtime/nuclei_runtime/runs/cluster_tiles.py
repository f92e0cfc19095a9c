"""Shares the tiles of a large image with threads of a Dask cluster that have nothing else to do.

The worker that has the image in hand does all the rest: it chooses the view, finds, numbers and measures the nuclei,
and writes the results. It reads the pixels of a tile and sends them; the maps come back. It depends on nobody: a tile
that nobody has, that somebody declines, or whose process is killed, it computes by itself. So there is nothing to wait
for in a cluster that is busy, and what becomes of the others changes the duration of a run and nothing else.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any
from uuid import uuid4

from distributed import Client, Future, Scheduler, get_client, get_worker

from nuclei_runtime.arrays import Maps
from nuclei_runtime.runs.cluster_futures import when_here
from nuclei_runtime.segmentation.network import Network
from nuclei_runtime.segmentation.plane_tiles import Tile, TileTask

TILE_KEY = "nuclei-tile"
"""How the keys of the tasks begin; Dask's dashboard shows this part."""

TILES_AHEAD = 2
"""For each thread that helps, how many tiles are handed out: one in hand and one waiting."""

MAX_AHEAD = 32
"""The most tiles of one image that are handed out: their pixels, and the maps that have come, are in memory. What only
one process can do takes about a quarter of the time of a dense image, so more helpers than this allows would have
nothing to do."""

OWN_AHEAD = 2
"""How many tiles this process computes ahead, at most, while it waits for one that it needs."""

LOOK_S = 2.0
"""How often to look who has nothing to do."""

LATE_S = 60.0
"""After how long a tile that is needed counts as late: it is then computed here as well. For as long, who declined one
or was late is not asked again."""

_PATIENCE_S = 0.2

_LOST = (OSError, CancelledError, TimeoutError, RuntimeError)
"""What is raised when the connection to the scheduler or another worker is lost."""


@dataclass(frozen=True)
class ClusterHelpers:
    """The threads of the cluster that a task runs in, for `nuclei_runtime.segmentation.blocks.segment_plane`.

    Attributes
    ----------
    run : str
        Name of the run's plugin.
    """

    run: str

    @contextmanager
    def tiles(
        self, plan: Sequence[Tile], task_of: Callable[[Tile], TileTask], network: Network
    ) -> Iterator[SharedTiles]:
        """Share the tiles of a plane; see `nuclei_runtime.segmentation.plane_tiles.Helpers`."""
        shared = SharedTiles(get_client(), self.run, plan, task_of, network)
        try:
            yield shared
        finally:
            shared.close()


@dataclass(frozen=True, eq=False)
class _HandedOut:
    task: Future
    pixels: Future
    address: str
    since: float


class SharedTiles:
    """The tiles of one plane."""

    def __init__(
        self, client: Client, run: str, plan: Sequence[Tile], task_of: Callable[[Tile], TileTask], network: Network
    ) -> None:
        self._client, self._run, self._task_of, self._network = client, run, task_of, network
        self._left = deque(plan)
        self._given_back: deque[Tile] = deque()
        self._handed_out: dict[Tile, _HandedOut] = {}
        self._ended: SimpleQueue[tuple[Tile, Future, Maps | None]] = SimpleQueue()
        self._free: dict[str, int] = {}
        self._declined_at: dict[str, float] = {}
        self._max_ahead = 0
        self._looked_at = -LOOK_S

    def until(self, tile: Tile) -> Iterator[tuple[Tile, Maps]]:
        """Yield tiles with their maps, the last of them the one that is asked for.

        Raises
        ------
        ImageError, SegmentationCancelledError
            See `nuclei_runtime.segmentation.plane_tiles.Tiles`.
        """
        n_own = 0
        while True:
            if tile not in self._handed_out:
                self._forget(tile)
                self._hand_out()
                yield tile, self._compute(tile)
                return
            self._hand_out()
            found = self._next_ended(wait=False)
            if found is None and tile in self._handed_out:
                if n_own < OWN_AHEAD and (self._given_back or self._left):
                    own = (self._given_back or self._left).popleft()
                    found, n_own = (own, self._compute(own)), n_own + 1
                elif time.monotonic() - self._handed_out[tile].since > LATE_S:
                    self._ask_no_more(self._take_back(tile))
                else:
                    found = self._next_ended(wait=True)
            if found is not None:
                yield found
                if found[0] == tile:
                    return

    def close(self) -> None:
        """Drop what is still handed out."""
        for tile in list(self._handed_out):
            self._take_back(tile)

    def _compute(self, tile: Tile) -> Maps:
        return self._task_of(tile).maps(self._network)

    def _forget(self, tile: Tile) -> None:
        """Take a tile off the lists of those that are to be computed."""
        for waiting in (self._given_back, self._left):
            with suppress(ValueError):
                waiting.remove(tile)

    def _hand_out(self) -> None:
        """Give tiles to those who have nothing to do, and take back those whose process is gone."""
        try:
            self._look()
            while self._left and len(self._handed_out) < self._max_ahead and (address := self._freest()) is not None:
                self._give(self._left.popleft(), address)
        except _LOST:
            self._free = {}

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._looked_at < LOOK_S:
            return
        self._looked_at = now
        asked = sorted({one.address for one in self._handed_out.values()})
        free, n_others, gone = self._client.run_on_scheduler(look_around, asked=asked)
        self._declined_at = {address: at for address, at in self._declined_at.items() if now - at < LATE_S}
        self._free = {address: n for address, n in free.items() if address not in self._declined_at}
        # Others that have a large image in hand want their part.
        self._max_ahead = min(-(-TILES_AHEAD * sum(self._free.values()) // max(n_others, 1)), MAX_AHEAD)
        for tile in [tile for tile, one in self._handed_out.items() if one.address in gone]:
            self._take_back(tile)
            self._given_back.append(tile)  # not to the next process: it may be the tile that killed this one

    def _freest(self) -> str | None:
        """Return the process with the fewest tiles of this plane per free thread; None if all have enough."""
        n_given = dict.fromkeys(self._free, 0)
        for one in self._handed_out.values():
            if one.address in n_given:
                n_given[one.address] += 1
        address = min(self._free, key=lambda address: n_given[address] / self._free[address], default=None)
        if address is None or n_given[address] >= TILES_AHEAD * self._free[address]:
            return None
        return address

    def _give(self, tile: Tile, address: str) -> None:
        # The pixels stay in this process until the other one takes them: they do not pass through the scheduler.
        pixels = self._client.scatter(self._task_of(tile), hash=False)
        task = self._client.submit(
            maps_in_worker,
            pixels,
            self._run,
            key=f"{TILE_KEY}-{uuid4()}",
            workers=[address],
            allow_other_workers=False,
            priority=1,  # an image that is handed to that worker meanwhile does not delay it
        )
        self._handed_out[tile] = _HandedOut(task, pixels, address, time.monotonic())
        # Whatever was raised, it is raised here as well if it is the tile's fault.
        when_here(task, lambda maps, _: self._ended.put((tile, task, maps)))

    def _next_ended(self, *, wait: bool) -> tuple[Tile, Maps] | None:
        """Return a tile that has come back with its maps; None if there is none yet, or it has come without."""
        try:
            tile, task, maps = self._ended.get(timeout=_PATIENCE_S) if wait else self._ended.get_nowait()
        except Empty:
            return None
        given = self._handed_out.get(tile)
        if given is None or given.task is not task:  # it was taken back, and may be with another process now
            return None
        address = self._take_back(tile)
        if maps is not None:
            return tile, maps
        self._given_back.append(tile)
        self._ask_no_more(address)
        return None

    def _ask_no_more(self, address: str) -> None:
        """Leave a process alone for a while."""
        self._declined_at[address] = time.monotonic()
        self._free.pop(address, None)

    def _take_back(self, tile: Tile) -> str:
        """Drop what is handed out of a tile; return who had it."""
        given = self._handed_out.pop(tile)
        with suppress(*_LOST):
            if not given.task.done():
                given.task.cancel(force=True)
            given.task.release()
            given.pixels.release()
        return given.address


def look_around(dask_scheduler: Scheduler, asked: Sequence[str]) -> tuple[dict[str, int], int, list[str]]:
    """Return, in the scheduler, who has nothing to do.

    Parameters
    ----------
    dask_scheduler : Scheduler
    asked : sequence of str
        Addresses of workers.

    Returns
    -------
    free : dict
        For each worker with such threads, how many are occupied by nothing but tiles.
    n_others : int
        Tasks in hand that are no tiles: images.
    gone : list of str
        Those of `asked` that are no longer there.
    """
    free, n_others = {}, 0
    for address, worker in dask_scheduler.workers.items():
        others = [task for task in worker.processing if not str(task.key).startswith(TILE_KEY)]
        n_others += len(others)
        if worker.status.name == "running" and worker.nthreads > len(others):
            free[address] = worker.nthreads - len(others)
    return free, n_others, [address for address in asked if address not in dask_scheduler.workers]


def maps_in_worker(task: TileTask, run: str) -> Maps | None:
    """Compute the maps of a tile in a worker process; None if it does not take part in the run, or has no room now."""
    plugin: Any = get_worker().plugins.get(run)
    if plugin is None or plugin.worker is None:
        return None
    with plugin.gate.passed(wait=False) as is_inside, plugin.worker.admission.admit_tile(task.n_bytes) as is_admitted:
        return task.maps(plugin.worker.segmenter.network) if is_inside and is_admitted else None
