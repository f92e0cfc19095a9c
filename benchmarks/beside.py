"""A benchmark, and what it stands beside, in turns."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.peers.harness import cpu_seconds

PAUSE_S = 0.1
"""Between two that take turns: threads of the one may still spin, waiting for more work, and take the other's cores."""

Timer = Callable[[], float]
Beside = Callable[..., None]
"""`measure_beside` without its first parameter."""


def measure_beside(
    benchmark: BenchmarkFixture,
    target: Callable[[], object],
    references: dict[str, Callable[[], object]] | None = None,
    *,
    rounds: int = 5,
    warmup: bool = True,
    timer: Timer = time.perf_counter,
    **extra: Any,
) -> None:
    """Measure a call, and references that take their turn in the same rounds, so that drift meets all alike.

    Parameters
    ----------
    benchmark : BenchmarkFixture
    target : callable
    references : dict of str to callable
        What they took is noted as ``reference_seconds``, a list a name.
    rounds : int
    warmup : bool
        Whether a round that does not count comes first.
    timer : callable
        Of the references; pytest-benchmark's own is a test's marker.
    extra
        Noted as they are.
    """
    seconds: dict[str, list[float]] = {name: [] for name in references or {}}
    cpu: list[float] = []

    def turn() -> None:
        time.sleep(PAUSE_S if references else 0)
        for name, reference in (references or {}).items():
            start = timer()
            reference()
            seconds[name].append(timer() - start)
            time.sleep(PAUSE_S)

    def timed() -> None:
        start = cpu_seconds()
        target()
        cpu.append(cpu_seconds() - start)

    if warmup:
        turn()
        target()
        for values in seconds.values():
            values.clear()
    benchmark.extra_info.update(extra)
    benchmark.pedantic(timed, setup=turn, rounds=rounds)  # type: ignore[no-untyped-call]
    benchmark.extra_info["cpu_seconds"] = cpu[-rounds:]
    benchmark.extra_info["reference_seconds"] = seconds
