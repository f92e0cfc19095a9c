from __future__ import annotations

from collections.abc import Iterator
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
