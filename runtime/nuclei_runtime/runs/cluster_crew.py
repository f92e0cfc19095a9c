"""Hands the files of a run to the workers of a Dask cluster, a few for each thread at a time."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar
from uuid import uuid4

from distributed import Client, Future, KilledWorker, wait

from nuclei_runtime.errors import RuntimeEnvironmentError, SegmentationCancelledError
from nuclei_runtime.results.writing import KEPT
from nuclei_runtime.runs.cluster_futures import when_here
from nuclei_runtime.runs.cluster_worker import TRIES, process_in_worker
from nuclei_runtime.runs.inputs import ImageFile
from nuclei_runtime.runs.workers import ReportBlocks

FILES_AHEAD = 3
"""For each thread of the cluster, how many files are handed out: one in hand and two waiting, so that no thread waits
for this process. An adaptive cluster grows by what is waiting."""

LOOK_S = 2.0
"""How often to look whether workers have come or gone."""

GRACE_S = 20.0
"""How long to wait, when a run is stopped, until the workers have dropped what they have in hand."""

_PATIENCE_S = 0.5
"""How long to wait at a time: Windows delivers Ctrl-C only between waits."""

Outcome = TypeVar("Outcome")


class Crew(Generic[Outcome]):
    """Hands files to the workers of a cluster, for `nuclei_runtime.runs.cluster.DaskCluster`.

    Parameters
    ----------
    client : Client
    note : callable
        Takes a sentence on the cluster for the user.
    run : str
        Name of the plugin.
    report : ReportBlocks
    killed : callable, optional
        Takes a file and returns its outcome if it kills its workers even when it is alone in the cluster. Without it,
        the workers see to that.
    """

    def __init__(
        self,
        client: Client,
        note: Callable[[str], None],
        run: str,
        report: ReportBlocks,
        killed: Callable[[ImageFile], Outcome] | None = None,
    ) -> None:
        self._client, self._note, self._run, self._killed = client, note, run, killed
        self._finished: SimpleQueue[tuple[Future, Any, Exception | None]] = SimpleQueue()
        self._looked_at = -LOOK_S
        self._n_threads = 0
        self.n_processed = 0
        client.subscribe_topic(run, lambda event: report(*event[1]))

    def outcomes(self, files: Sequence[ImageFile]) -> Iterator[Outcome]:
        """Yield the outcome of each file as it is finished.

        Raises
        ------
        RuntimeEnvironmentError
            The scheduler was lost; workers are killed before they can begin; or see `process_file`. What was written
            before is kept.
        """
        left = iter(files)
        waiting: dict[Future, ImageFile] = {}
        n_lost: Counter[str] = Counter()
        suspects: deque[ImageFile] = deque()
        try:
            while True:
                while len(waiting) < FILES_AHEAD * max(1, self._threads_now()) and (file := next(left, None)):
                    self._hand_out(file, waiting)
                if not waiting:
                    if not suspects:
                        break
                    self._hand_out(suspects[0], waiting)
                try:
                    future, outcome, error = self._finished.get(timeout=_PATIENCE_S)
                except Empty:
                    continue
                file = waiting.pop(future)
                was_alone = bool(suspects) and file is suspects[0]
                if isinstance(error, KilledWorker | SegmentationCancelledError):
                    if self._killed is not None and isinstance(error, KilledWorker):
                        if was_alone:
                            self.n_processed += 1
                            yield self._killed(suspects.popleft())
                        else:  # it may only have waited in the process that another one killed
                            suspects.append(file)
                        continue
                    # Killed: the next worker counts the tries, unless this one died before it began. Cancelled: the
                    # worker was taken away from the cluster.
                    n_lost[file.name] += 1
                    if n_lost[file.name] > TRIES:
                        raise RuntimeEnvironmentError(
                            f"{file.name}: each of its workers ends before it is done; see their logs; {KEPT}"
                        )
                    self._hand_out(file, waiting)
                    continue
                if error is not None:
                    raise error
                if was_alone:
                    suspects.popleft()
                self.n_processed += 1
                yield outcome
            self.close()
        except (CancelledError, OSError) as error:
            raise RuntimeEnvironmentError(f"the connection to the Dask scheduler was lost; {KEPT}") from error
        except BaseException:
            self._stop(list(waiting))
            raise

    def close(self) -> None:
        """Have the workers end what is in hand and release the model."""
        with suppress(Exception):  # whatever has become of the cluster, the run has ended
            self._client.unsubscribe_topic(self._run)
            self._client.unregister_worker_plugin(self._run)

    def _stop(self, futures: list[Future]) -> None:
        """Drop what is waiting and what is in hand; the lock is released only when nobody writes any more."""
        self.close()
        with suppress(TimeoutError, CancelledError), self._client.as_current():
            wait(futures, timeout=GRACE_S)
        self.n_processed += sum(future.status == "finished" for future in futures)
        with suppress(CancelledError, OSError):
            self._client.cancel(futures, force=True)

    def _hand_out(self, file: ImageFile, waiting: dict[Future, ImageFile]) -> None:
        key = f"nuclei-infer-{uuid4()}"  # Dask's dashboard shows what is before the number
        future = self._client.submit(process_in_worker, file, self._run, key=key, retries=TRIES - 1)
        waiting[future] = file
        when_here(future, lambda outcome, error: self._finished.put((future, outcome, error)))

    def _threads_now(self) -> int:
        """Return how many threads the cluster has, or had a moment ago."""
        now = time.monotonic()
        if now - self._looked_at >= LOOK_S:
            found = sum(self._client.nthreads().values())
            if not found and (self._n_threads or self._looked_at < 0):
                self._note("the cluster has no worker now: waiting for one; Ctrl-C ends the run")
            self._looked_at, self._n_threads = now, found
        return self._n_threads
