"""What runs in the worker processes of a Dask cluster: `process_file`, as on one machine.

Each worker process loads the model once for a run and makes one `Worker` of the job, which its threads share.
"""

from __future__ import annotations

import platform
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

from distributed import Worker as DaskWorker
from distributed import WorkerPlugin, get_worker

from nuclei_runtime.errors import NucleiError, RuntimeEnvironmentError, SegmentationCancelledError
from nuclei_runtime.faults import machine_error
from nuclei_runtime.results.earlier import EarlierResults
from nuclei_runtime.results.mirror import reading
from nuclei_runtime.results.outcome import Verified
from nuclei_runtime.results.provenance import packages
from nuclei_runtime.results.remote_store import AnyStore
from nuclei_runtime.results.writing import KEPT
from nuclei_runtime.runs.cluster_tiles import ClusterHelpers
from nuclei_runtime.runs.image_file import process_file
from nuclei_runtime.runs.inputs import ImageFile
from nuclei_runtime.runs.verify import compare_file
from nuclei_runtime.runs.workers import Job, Worker
from nuclei_runtime.segmentation.admission import Gate

TRIES = 2
"""How often an image is tried whose process is killed."""

MEMORY_SHARE = 0.6
"""Share of a worker's memory limit that images may take, if the user sets no limit. By default, a worker takes in no
more tasks at 80% and is killed at 95% ("Worker Memory Management", documentation of Dask.distributed)."""

REPORT_EVERY_S = 1.0
"""How often, at most, a worker reports how far a large image is."""

KILLED = (
    f"the worker that had this image was killed or crashed, {TRIES} times: most likely it needs more memory than the "
    "worker has (see the worker's log), or its file crashes the library that reads it"
)


def installed() -> dict[str, str]:
    """Return the versions that must be the same on all machines of a run."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"nuclei-edge": version("nuclei-edge"), "python": python, **packages()}


@dataclass
class RunPlugin(WorkerPlugin):  # type: ignore[misc]
    """A run, in a worker process. Dask sends it to all workers, also to those that come later.

    Attributes
    ----------
    name : str
        Of the run.
    job : Job
    store : ResultStore, RemoteStore or EarlierResults
    out : str
        The results folder, for messages.
    fingerprint : str
        `ResultStore.fingerprint`.
    one : ImageFile, optional
        One of the images, if the client sees any.
    failure : str, optional
        Why this worker can do nothing for the run.
    worker : Worker, optional
        None if it can do nothing.
    gate : Gate
        What all that is done for the run in this process passes.
    """

    name: str
    job: Job
    store: AnyStore | EarlierResults
    out: str
    fingerprint: str
    one: ImageFile | None
    failure: str | None = None

    def setup(self, worker: DaskWorker) -> None:
        """Load the model. An error is kept, because Dask would not start the worker."""
        self.gate = Gate()
        self.worker: Worker | None = None
        try:
            self._check()
            self.worker = self._load(worker)
        except NucleiError as error:
            self.failure = str(error)
        except Exception as error:
            self.failure = f"{type(error).__name__}: {error}"

    def teardown(self, worker: DaskWorker) -> None:  # noqa: ARG002  # Dask passes it
        """End what is in hand."""
        if self.worker is not None:
            self.worker.stop.set()

    def process(self, file: ImageFile) -> Any:
        """Return the outcome of a file; it is alone in this process if another process was killed over it.

        Raises
        ------
        RuntimeEnvironmentError
            See `process_file`; or this worker can do nothing for the run.
        """
        if self.worker is None:
            raise RuntimeEnvironmentError(self.failure)
        n_killed = self.store.n_killed(file.name)
        with self.gate.passed(alone=n_killed > 0), self.store.attempt(file.name):
            return self._do(file, self.worker, KILLED if n_killed >= TRIES else None)

    def _do(self, file: ImageFile, worker: Worker, obstacle: str | None) -> Any:
        assert not isinstance(self.store, EarlierResults)
        return process_file(file, worker, self.store, obstacle=obstacle)

    def _check(self) -> None:
        origin = None if self.one is None else self.one.origin
        if self.one is not None and origin is None and not self.one.path.exists():
            raise RuntimeEnvironmentError(
                f"cannot see the images, because there is no {self.one.path} on its machine; all workers need them "
                "under the same path"
            )
        if origin is not None:
            with reading(origin.folder):
                if not origin.is_there():
                    raise RuntimeEnvironmentError(f"cannot see the images, because it finds none in {origin.folder}")
        found = None
        with suppress(RuntimeEnvironmentError):
            found = self.store.fingerprint()
        if found != self.fingerprint:
            raise RuntimeEnvironmentError(
                f"cannot see the results folder, because {self.out} is another one on its machine, or missing; name "
                "one that all workers share under the same path"
            )
        with self.store.new_workspace("probe"):  # can be written to
            pass

    def _load(self, worker: DaskWorker) -> Worker:
        n_threads, limit = worker.state.nthreads, worker.memory_manager.memory_limit
        options, max_memory = self.job.options, self.job.max_memory
        if max_memory is None and limit:
            max_memory = int(MEMORY_SHARE * limit)
        options = replace(options, threads=max(1, (options.threads or n_threads) // n_threads))
        job = replace(self.job, options=options, max_memory=max_memory)
        return Worker.load(job, n_threads, _Reports(worker, self.name), ClusterHelpers(self.name))


class VerifyPlugin(RunPlugin):
    """A comparison with the results of an earlier run, which are in place of the store."""

    def _do(self, file: ImageFile, worker: Worker, _: str | None) -> Verified:
        return compare_file(file, worker, self.store.path)


class _Reports:
    """Sends how far a large image is to the client, now and then."""

    def __init__(self, worker: DaskWorker, topic: str) -> None:
        self._worker, self._topic = worker, topic
        self._sent: dict[str, float] = {}

    def __call__(self, image: str, done: int, total: int) -> None:
        now = time.monotonic()
        if done == total or now - self._sent.get(image, -REPORT_EVERY_S) >= REPORT_EVERY_S:
            self._sent[image] = now
            self._worker.log_event(self._topic, [image, done, total])
        if done == total:
            del self._sent[image]


def failure_of(run: str, dask_worker: DaskWorker) -> str | None:
    """Return why a worker can do nothing for a run; None if it can."""
    plugin: RunPlugin = dask_worker.plugins[run]
    return plugin.failure


def process_in_worker(file: ImageFile, run: str) -> Any:
    """Process a file in a worker process.

    Raises
    ------
    SegmentationCancelledError
        The run, or this worker, is about to end.
    RuntimeEnvironmentError
        See `RunPlugin.process`.
    """
    worker: Any = get_worker()
    plugin: RunPlugin | None = worker.plugins.get(run)
    if plugin is None:
        raise SegmentationCancelledError("the run has ended")
    try:
        return plugin.process(file)
    except RuntimeEnvironmentError as error:
        raise RuntimeEnvironmentError(f"worker {worker.address}: {error}") from error
    except OSError as error:  # to the client, it would look like a connection that is lost
        raise machine_error(error, f"worker {worker.address}: {error.filename or 'a file'}", KEPT) from error
