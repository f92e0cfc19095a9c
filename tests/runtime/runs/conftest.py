from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest


@pytest.fixture(scope="module")
def two_workers(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A Dask cluster of two worker processes; what the test's file defines is sent to them as it is."""
    distributed = pytest.importorskip("distributed", reason="NOT RUN: the extra dask is not installed")
    cloudpickle, dask = pytest.importorskip("cloudpickle"), pytest.importorskip("dask")
    from nuclei_runtime.runs.cluster import ON_A_BUSY_MACHINE

    cloudpickle.register_pickle_by_value(request.module)
    with (
        dask.config.set(ON_A_BUSY_MACHINE),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0", silence_logs=50
        ) as cluster,
    ):
        yield cluster


@pytest.fixture
def local(two_workers: Any) -> Any:
    """The same, when those that the test before has killed are there again."""
    two_workers.wait_for_workers(2, timeout=120)
    return two_workers


@pytest.fixture
def kill_who_finishes(local: Any) -> Iterator[Callable[[str], list[int]]]:
    """Kills the process that is the first to finish such a task, before anybody can fetch the result; says which one.

    The scheduler, which runs in this process, tells of the end of a task only after that.
    """
    from distributed import SchedulerPlugin

    class Killer(SchedulerPlugin):  # type: ignore[misc]
        def __init__(self, key: str) -> None:
            self.key, self.killed = key, list[int]()

        def transition(self, key: Any, _start: str, finish: str, *_: Any, worker: str = "", **__: Any) -> None:
            if not self.killed and str(key).startswith(self.key) and finish == "memory":
                self.killed.append(local.scheduler.workers[worker].pid)
                os.kill(self.killed[0], signal.SIGKILL)

    def kill(key: str) -> list[int]:
        killer = Killer(key)
        local.scheduler.add_plugin(killer, name="killer")
        return killer.killed

    yield kill
    local.scheduler.remove_plugin("killer")
