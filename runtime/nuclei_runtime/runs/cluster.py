"""Processes the files of a run on a Dask cluster: one on this machine, or one that is there already.

A few files for each thread of the cluster are handed out at a time, so that neither the scheduler nor a worker holds
more of a run the longer it is. The lock, the joined tables and the report are this process's business, as always.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import Any

import dask.config
from distributed import Client, LocalCluster

from nuclei_runtime.errors import InputsError, RuntimeEnvironmentError
from nuclei_runtime.resources import cpu_count
from nuclei_runtime.results.earlier import EarlierResults
from nuclei_runtime.results.outcome import Verified
from nuclei_runtime.results.remote_store import AnyStore
from nuclei_runtime.runs.cluster_crew import Crew, Outcome
from nuclei_runtime.runs.cluster_worker import KILLED, RunPlugin, VerifyPlugin, failure_of, installed
from nuclei_runtime.runs.image_file import FileOutcome
from nuclei_runtime.runs.inputs import ImageFile
from nuclei_runtime.runs.workers import Job, ReportBlocks, report_nothing
from nuclei_runtime.wording import counted

ON_A_BUSY_MACHINE = {
    "distributed.comm.timeouts.connect": "120s",
    "distributed.comm.timeouts.tcp": "120s",
    "distributed.deploy.lost-worker-timeout": "1d",
}
"""Processes of this machine that are slow are not taken for dead. By default, a connection fails after 30 seconds, and
a process that was killed is given up for good unless another one is there in its place within 15 seconds."""


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

    def crew(
        self, name: str, job: Job, store: AnyStore, files: Sequence[ImageFile], report: ReportBlocks
    ) -> Crew[FileOutcome]:
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
        shared, title = store.for_other_machines(), f"nuclei-infer {name}"
        plugin = RunPlugin(title, self._of_workers(job), shared, name, store.fingerprint(), _one_here(files))
        return self._send(plugin, Crew(self._client, self._note, title, report))

    def comparers(self, name: str, job: Job, results: EarlierResults, files: Sequence[ImageFile]) -> Crew[Verified]:
        """Do the same for a comparison with the results of an earlier run, into which nothing is written.

        Raises
        ------
        RuntimeEnvironmentError
            See `crew`.
        """
        shared, title = results.for_other_machines(), f"nuclei-infer --verify {name}"
        plugin = VerifyPlugin(title, self._of_workers(job), shared, name, results.fingerprint(), _one_here(files))
        return self._send(plugin, Crew(self._client, self._note, title, report_nothing, _killed))

    def _of_workers(self, job: Job) -> Job:
        return replace(job, options=replace(job.options, threads=job.options.threads or self._threads))

    def _send(self, plugin: RunPlugin, crew: Crew[Outcome]) -> Crew[Outcome]:
        """Send a run to all workers and return the crew, if they can all take part."""
        try:
            self._refuse_other_versions()
            self._client.register_plugin(plugin, plugin.name)
            self._refuse({who: why for who, why in self._ask(failure_of, plugin.name).items() if why is not None})
        except BaseException:
            crew.close()
            raise
        return crew

    def _refuse_other_versions(self) -> None:
        here = installed()
        differing: dict[str, str | Exception] = {}
        found = self._ask(installed)
        try:  # the scheduler unpickles what it hands on, and makes no results
            version = self._client.run_on_scheduler(installed)["nuclei-edge"]
            found["the scheduler"] = {**here, "nuclei-edge": version}
        except Exception as error:
            found["the scheduler"] = error
        for who, there in found.items():
            if isinstance(there, OSError):
                differing[who] = there
            elif isinstance(there, Exception):  # Dask does not keep the type of what is raised while it unpickles
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

    def _refuse(self, reasons: dict[str, str | Exception]) -> None:
        if reasons:
            raise RuntimeEnvironmentError("\n".join(f"{who}: {_told(why)}" for who, why in reasons.items()))


def _told(why: str | Exception) -> str:
    if isinstance(why, OSError):  # a connection that was lost
        return f"does not answer ({why}); it may have been killed: see its log, and try again"
    return str(why)


def _one_here(files: Sequence[ImageFile]) -> ImageFile | None:
    """Return an image that this process finds: others may be links that lead nowhere, and fail alone."""
    for file in files:
        with suppress(OSError):
            if file.origin is not None or file.path.exists():
                return file
    return None


def _killed(file: ImageFile) -> Verified:
    return Verified(file.name, (KILLED,))
