"""Decides which planes may be in memory at the same time, when several workers segment them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition

from nuclei_runtime.readers.plane import Plane
from nuclei_runtime.segmentation.block_search import GRID
from nuclei_runtime.segmentation.memory import Budget
from nuclei_runtime.segmentation.network import Network
from nuclei_runtime.segmentation.process_memory import default_max_memory, has_room, resident_bytes


class Gate:
    """Lets many in at the same time, or one alone."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._n_inside = 0
        self._is_alone = False

    @contextmanager
    def passed(self, *, alone: bool = False, wait: bool = True) -> Iterator[bool]:
        """Wait until one may enter, and stay inside for as long as the ``with`` statement runs.

        Yields
        ------
        bool
            Whether one is inside: without `wait`, only if one could enter at once.
        """
        with self._changed:
            may_enter = self._changed.wait_for(
                lambda: not self._is_alone and not (alone and self._n_inside), None if wait else 0
            )
            if may_enter:
                self._n_inside += 1
                self._is_alone = alone
        try:
            yield may_enter
        finally:
            if may_enter:
                with self._changed:
                    self._n_inside -= 1
                    self._is_alone = False
                    self._changed.notify_all()


class Admission:
    """Admits the planes of several workers to memory. Create it after the model is loaded, before a plane is read.

    A plane that fits into its worker's share of the ceiling with the tiles of the model's card is admitted at once. Any
    other plane waits until it is alone, and keeps the others waiting. It is then refused or read in smaller tiles,
    exactly as in a run with one worker.

    Parameters
    ----------
    n_workers : int
    max_memory : int, optional
        See `nuclei_runtime.segmentation.blocks.segment_plane`.
    """

    def __init__(self, n_workers: int = 1, max_memory: int | None = None) -> None:
        self._max_memory = max_memory
        self._share = None if n_workers == 1 else _share(n_workers, max_memory)
        self._gate = Gate()

    @contextmanager
    def admit(self, plane: Plane, network: Network) -> Iterator[int | None]:
        """Wait until the plane may be segmented. It holds its place for as long as the ``with`` statement runs.

        Yields
        ------
        int or None
            The plane's share of the memory in bytes; see `nuclei_runtime.segmentation.blocks.segment_plane`. None if it
            is alone.
        """
        share = self._share
        if share is None:
            yield None
            return
        alone = not all(
            Budget(plane, self._max_memory, one).fits_in(share, one.tiling, GRID.window_px) for one in network.fixed()
        )
        with self._gate.passed(alone=alone):
            yield None if alone else share

    @contextmanager
    def admit_tile(self, n_bytes: int) -> Iterator[bool]:
        """Admit a tile of a plane that another process has in hand, if there is memory for it now: it does not wait.

        Yields
        ------
        bool
            Whether it is admitted.
        """
        alone = self._share is not None and n_bytes > self._share
        with self._gate.passed(alone=alone, wait=False) as is_inside:
            yield is_inside and has_room(n_bytes, self._max_memory)


def _share(n_workers: int, max_memory: int | None) -> int:
    ceiling = default_max_memory() if max_memory is None else max_memory
    return (ceiling - resident_bytes()) // n_workers
