"""Processes the files of a run on a Dask cluster: one on this machine, or one that is there already.

A few files for each thread of the cluster are handed out at a time, so that neither the scheduler nor a worker holds
more of a run the longer it is. The lock, the joined tables and the report are this process's business, as always.
"""

from __future__ import annotations

import logging
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from queue import Empty, SimpleQueue
from typing import Any
from uuid import uuid4

import dask.config
from distributed import Client, Future, KilledWorker, LocalCluster, wait

from nuclei_runtime.errors import InputsError, RuntimeEnvironmentError, SegmentationCancelledError
from nuclei_runtime.resources import cpu_count
from nuclei_runtime.results.remote_store import AnyStore
from nuclei_runtime.results.writing import KEPT
from nuclei_runtime.runs.cluster_worker import TRIES, RunPlugin, failure_of, installed, process_in_worker
from nuclei_runtime.runs.image_file import FileOutcome
from nuclei_runtime.runs.inputs import ImageFile
from nuclei_runtime.runs.workers import Job, ReportBlocks
from nuclei_runtime.wording import counted

FILES_AHEAD = 3
"""For each thread of the cluster, how many files are handed out: one in hand and two waiting, so that no thread waits
for this process. An adaptive cluster grows by what is waiting."""

LOOK_S = 2.0
"""How often to look whether workers have come or gone."""

GRACE_S = 20.0
"""How long to wait, when a run is stopped, until the workers have dropped what they have in hand."""

ON_A_BUSY_MACHINE = {
    "distributed.comm.timeouts.connect": "120s",
    "distributed.comm.timeouts.tcp": "120s",
    "distributed.deploy.lost-worker-timeout": "1d",
}
"""Processes of this machine that are slow are not taken for dead. By default, a connection fails after 30 seconds, and
a process that was killed is given up for good unless another one is there in its place within 15 seconds."""

_PATIENCE_S = 0.5
"""How long to wait at a time: Windows delivers Ctrl-C only between waits."""


@contextmanager
def open_cluster(where: str, note: Callable[[str], None]) -> Iterator[DaskCluster]:
    """Start worker processes on this machine, or connect to a cluster, which is left running at the end.

    Parameters
    ----------
    where : str
        ``local:N`` for N processes, the address of a scheduler, or the path of its scheduler file (``.json``).
    note : callable
        Takes a sentence on the cluster for the user.

    Raises
    ------
    InputsError
        ``local:`` is not followed by a number above 0.
    RuntimeEnvironmentError
        No scheduler answers, or this machine cannot start the processes.
    """
    for name in ("distributed", "distributed.client"):  # both have a level of their own
        logging.getLogger(name).setLevel(logging.CRITICAL)  # errors end as sentences of this run
    if not where.startswith("local:"):
        with _connected(where) as client:
            yield DaskCluster(client, note)
        return
    match = re.fullmatch(r"local:([1-9]\d{0,3})", where, re.ASCII)
    if match is None:
        raise InputsError(f"--dask {where}: expected local:N with N processes, such as local:4")
    n_workers = int(match[1])
    with _started(n_workers) as client:
        yield DaskCluster(client, note, max(1, cpu_count() // n_workers))


@contextmanager
def _started(n_workers: int) -> Iterator[Client]:
    with ExitStack() as opened:
        try:
            opened.enter_context(dask.config.set(ON_A_BUSY_MACHINE))
            local = LocalCluster(
                n_workers=n_workers,
                threads_per_worker=1,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                security=True,  # others who use this machine cannot connect
                silence_logs=logging.CRITICAL,
                preload="nuclei_runtime.runs.cluster_local",
            )
            client = opened.enter_context(Client(opened.enter_context(local), set_as_default=False))
        except (OSError, RuntimeError) as error:
            raise RuntimeEnvironmentError(
                f"--dask local:{n_workers}: the processes cannot be started ({error}); try fewer, or leave out --dask"
            ) from error
        yield client


@contextmanager
def _connected(where: str) -> Iterator[Client]:
    named = {"scheduler_file": where} if where.endswith(".json") else {"address": where}
    try:
        client = Client(**named, set_as_default=False)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        # What Dask says may hold more of the address than is anybody's business.
        raise RuntimeEnvironmentError(
            f"--dask {_without_user(where)}: no Dask scheduler answers there ({type(error).__name__}); check the "
            "address, which is such as tcp://HOST:8786, and the network; for processes on this machine, use local:N"
        ) from error
    with client:
        yield client


def _without_user(address: str) -> str:
    return re.sub(r"//[^/]*@", "//", address)


class DaskCluster:
    """A cluster, for `nuclei_runtime.runs.run.FolderRun`.

    Parameters
    ----------
    client : Client
    note : callable
        See `open_cluster`.
    threads : int, optional
        Of each worker, unless the user names a number. Without it, as many as Dask gives it.
    """

    def __init__(self, client: Client, note: Callable[[str], None], threads: int | None = None) -> None:
        self._client, self._note, self._threads = client, note, threads
        found = client.nthreads()
        workers, slots = counted(len(found), "worker"), counted(sum(found.values()), "image")
        note(f"cluster: {workers}, {slots} at a time; dashboard: {_without_user(client.dashboard_link)}")

    def crew(self, name: str, job: Job, store: AnyStore, files: Sequence[ImageFile], report: ReportBlocks) -> Crew:
        """Have all workers load the model, and check that they see what this process sees.

        Parameters
        ----------
        name : str
            Of the results folder and shard: a run that continues another one replaces it on the workers.
        job : Job
        store : ResultStore or RemoteStore
        files : sequence of ImageFile
        report : ReportBlocks

        Raises
        ------
        RuntimeEnvironmentError
            A worker would give other results, or does not see the images, the results folder or the model. The message
            names each such worker.
        """
        self._refuse_other_versions()
        options = replace(job.options, threads=job.options.threads or self._threads)
        shared = store.for_other_machines()
        plugin = RunPlugin(
            f"nuclei-infer {name}", replace(job, options=options), shared, name, store.fingerprint(), files[0]
        )
        self._client.register_plugin(plugin, plugin.name)
        crew = Crew(self._client, self._note, plugin.name, report)
        try:
            self._refuse({who: why for who, why in self._ask(failure_of, plugin.name).items() if why is not None})
        except BaseException:
            crew.close()
            raise
        return crew

    def _refuse_other_versions(self) -> None:
        here, differing = installed(), {}
        found = self._ask(installed)
        try:  # the scheduler unpickles what it hands on, and makes no results
            version = self._client.run_on_scheduler(installed)["nuclei-edge"]
            found["the scheduler"] = {**here, "nuclei-edge": version}
        except Exception as error:
            found["the scheduler"] = error
        for who, there in found.items():
            if isinstance(there, Exception):  # Dask does not keep the type of what is raised while it unpickles
                differing[who] = (
                    f"lacks nuclei-edge, or has another version of it ({there}); install version "
                    f"{here['nuclei-edge']} with the extra dask there"
                )
            elif there != here:
                names = sorted(name for name in here.keys() | there.keys() if here.get(name) != there.get(name))
                listed = ", ".join(f"{name} {there.get(name)} (here {here.get(name)})" for name in names)
                differing[who] = f"has other versions, which may give other results: {listed}; install the same"
        self._refuse(differing)

    def _ask(self, question: Callable[..., Any], *arguments: str) -> dict[str, Any]:
        answers: dict[str, Any] = self._client.run(question, *arguments, on_error="return")
        return {f"worker {address}": answer for address, answer in answers.items()}

    def _refuse(self, reasons: dict[str, str]) -> None:
        if reasons:
            raise RuntimeEnvironmentError("\n".join(f"{who}: {why}" for who, why in reasons.items()))


class Crew:
    """Hands files to the workers of a cluster, for `DaskCluster`; `run` is the name of the plugin."""

    def __init__(self, client: Client, note: Callable[[str], None], run: str, report: ReportBlocks) -> None:
        self._client, self._note, self._run = client, note, run
        self._finished: SimpleQueue[Future] = SimpleQueue()
        self._looked_at = -LOOK_S
        self._n_threads = 0
        self.n_processed = 0
        client.subscribe_topic(run, lambda event: report(*event[1]))

    def outcomes(self, files: Sequence[ImageFile]) -> Iterator[FileOutcome]:
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
        try:
            while True:
                while len(waiting) < FILES_AHEAD * max(1, self._threads_now()) and (file := next(left, None)):
                    self._hand_out(file, waiting)
                if not waiting:
                    break
                future = self._next_finished()
                if future is None:
                    continue
                file = waiting.pop(future)
                try:
                    outcome: FileOutcome = future.result()
                except (KilledWorker, SegmentationCancelledError):
                    # Killed: the next worker counts the tries, unless this one died before it began. Cancelled: the
                    # worker was taken away from the cluster.
                    n_lost[file.name] += 1
                    if n_lost[file.name] > TRIES:
                        raise RuntimeEnvironmentError(
                            f"{file.name}: each of its workers ends before it is done; see their logs; {KEPT}"
                        ) from None
                    self._hand_out(file, waiting)
                    continue
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
        future.add_done_callback(self._finished.put)

    def _next_finished(self) -> Future | None:
        """Return a future that has ended; None if there is none yet."""
        try:
            return self._finished.get(timeout=_PATIENCE_S)
        except Empty:
            return None

    def _threads_now(self) -> int:
        """Return how many threads the cluster has, or had a moment ago."""
        now = time.monotonic()
        if now - self._looked_at >= LOOK_S:
            found = sum(self._client.nthreads().values())
            if not found and (self._n_threads or self._looked_at < 0):
                self._note("the cluster has no worker now: waiting for one; Ctrl-C ends the run")
            self._looked_at, self._n_threads = now, found
        return self._n_threads
