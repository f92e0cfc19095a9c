"""Processes the files of a run in threads of this process."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

from nuclei_runtime.results.remote_store import AnyStore
from nuclei_runtime.runs.given import AnyWorker
from nuclei_runtime.runs.image_file import FileOutcome, process_file
from nuclei_runtime.runs.inputs import ImageFile

FILES_AHEAD = 4
"""For each file at a time, how many may be begun or finished ahead of the one whose outcome is next."""

_INTERRUPTIBLE_S = 0.5
"""How long to wait at a time: Windows delivers Ctrl-C only between waits."""


class Threads:
    """Threads that share one worker.

    Parameters
    ----------
    worker : Worker or GivenWorker
    store : ResultStore or RemoteStore
    n_at_once : int
        How many files are processed at the same time.
    """

    def __init__(self, worker: AnyWorker, store: AnyStore, n_at_once: int) -> None:
        self._worker, self._store, self._n_at_once = worker, store, n_at_once
        self._processed: list[ImageFile] = []

    @property
    def n_processed(self) -> int:
        """Files that are finished; maybe more than were yielded."""
        return len(self._processed)

    def outcomes(self, files: Sequence[ImageFile]) -> Iterator[FileOutcome]:
        """Yield the outcome of each file, in their order.

        Raises
        ------
        RuntimeEnvironmentError
            See `process_file`.
        """
        return map(self._process, files) if self._n_at_once == 1 else self._side_by_side(files)

    def _process(self, file: ImageFile) -> FileOutcome:
        outcome = process_file(file, self._worker, self._store)
        self._processed.append(file)
        return outcome

    def _side_by_side(self, files: Sequence[ImageFile]) -> Iterator[FileOutcome]:
        waiting: deque[Future[FileOutcome]] = deque()
        with ThreadPoolExecutor(self._n_at_once) as pool:
            try:
                for file in files:
                    # Only a few ahead, so that the outcome of a slow file is not held back by many later ones.
                    if len(waiting) == FILES_AHEAD * self._n_at_once:
                        yield _result(waiting.popleft())
                    waiting.append(pool.submit(self._process, file))
                while waiting:
                    yield _result(waiting.popleft())
            except BaseException:  # what is begun is not finished either, as in a run with one thread
                self._worker.stop.set()
                raise
            finally:
                for future in waiting:
                    future.cancel()


def _result(future: Future[FileOutcome]) -> FileOutcome:
    while not wait([future], _INTERRUPTIBLE_S).done:
        pass
    return future.result()
