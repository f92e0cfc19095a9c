"""Measure a benchmark and its references in turns."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.peers.harness import cpu_seconds

PAUSE_S = 0.1
"""Pause between two calls: the threads of the first may still spin and take the cores of the second."""

Timer = Callable[[], float]
SideBySide = Callable[..., None]
"""`measure_side_by_side` without its first parameter."""


def measure_side_by_side(
    benchmark: BenchmarkFixture,
    target: Callable[[], object],
    references: dict[str, Callable[[], object]] | None = None,
    *,
    rounds: int = 5,
    warmup: bool = True,
    timer: Timer = time.perf_counter,
    **extra: Any,
) -> None:
    """Measure a call and its references in the same rounds, so that drift affects all of them equally.

    Parameters
    ----------
    benchmark : BenchmarkFixture
    target : callable
    references : dict of str to callable
        Their times are recorded as ``reference_seconds``, one list per name.
    rounds : int
    warmup : bool
        Whether to start with a round that does not count.
    timer : callable
        For the references; pytest-benchmark takes its own from a test's marker.
    extra
        Recorded unchanged.
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
