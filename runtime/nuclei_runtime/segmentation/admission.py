"""Decides which planes may be in memory at the same time, when several workers segment them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition

from nuclei_runtime.readers.plane import Plane
from nuclei_runtime.segmentation.block_search import GRID
from nuclei_runtime.segmentation.memory import Budget, resident_bytes
from nuclei_runtime.segmentation.network import Network


class Admission:
    """Admits the planes of several workers to memory. Create it after the model is loaded, before a plane is read.

    A plane that never needs more than its worker's share of the ceiling is admitted at once. Any other plane waits
    until it is alone, and keeps the others waiting. It is then refused or read in smaller tiles, exactly as in a run
    with one worker.

    Parameters
    ----------
    n_workers : int
    max_memory : int, optional
        See `nuclei_runtime.segmentation.blocks.segment_plane`.
    """

    def __init__(self, n_workers: int = 1, max_memory: int | None = None) -> None:
        self._n_workers, self._max_memory = n_workers, max_memory
        self._resident = resident_bytes() if n_workers > 1 else 0
        self._changed = Condition()
        self._n_inside = 0
        self._is_alone = False

    @contextmanager
    def admit(self, plane: Plane, network: Network) -> Iterator[None]:
        """Wait until the plane may be segmented. It holds its place for as long as the ``with`` statement runs."""
        if self._n_workers == 1:
            yield
            return
        alone = not all(
            Budget(plane, self._max_memory, one).fits_in_share(
                one.tiling, GRID.window_px, self._n_workers, self._resident
            )
            for one in network.fixed()
        )
        with self._changed:
            self._changed.wait_for(lambda: not self._is_alone and not (alone and self._n_inside))
            self._n_inside += 1
            self._is_alone = alone
        try:
            yield
        finally:
            with self._changed:
                self._n_inside -= 1
                self._is_alone = False
                self._changed.notify_all()
