"""Planes in memory at the same time: some that fit together, and one that must be alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier, Event

import numpy as np
import pytest

from nuclei_runtime import Segmenter
from nuclei_runtime.readers.plane import Plane, plane_of
from nuclei_runtime.segmentation import admission, memory, process_memory
from nuclei_runtime.segmentation.admission import Admission

HELD = 90 << 20


@pytest.fixture(autouse=True)
def held(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (memory, admission, process_memory):
        monkeypatch.setattr(module, "resident_bytes", lambda: HELD)


@pytest.fixture
def segmenter(tiled_model: Path) -> Segmenter:
    return Segmenter(tiled_model, threads=1)


def plane(side: int) -> Plane:
    return replace(plane_of(np.broadcast_to(np.uint8(0), (side, side))), reads_blocks=True)


def test_small_planes_are_in_at_the_same_time(segmenter: Segmenter) -> None:
    admitting, together = Admission(3, 2 << 30), Barrier(3, timeout=20)

    def enter(_: int) -> int:
        with admitting.admit(plane(64), segmenter.network):
            return together.wait()  # fails unless all three are admitted

    with ThreadPoolExecutor(3) as pool:
        assert sorted(pool.map(enter, range(3))) == [0, 1, 2]


def test_one_that_needs_more_than_its_share_waits_and_keeps_others_out(segmenter: Segmenter) -> None:
    admitting, log = Admission(3, 700 << 20), []
    small_in, large_in, leave_small, leave_large = Event(), Event(), Event(), Event()

    def small() -> None:
        with admitting.admit(plane(64), segmenter.network):
            log.append("small in")
            small_in.set()
            leave_small.wait(20)
            log.append("small out")

    def large() -> None:
        with admitting.admit(plane(6000), segmenter.network):
            log.append("large in")
            large_in.set()
            leave_large.wait(20)
            log.append("large out")

    def late() -> None:
        with admitting.admit(plane(64), segmenter.network):
            log.append("late in")

    with ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(small)]
        assert small_in.wait(20)
        futures.append(pool.submit(large))
        assert not large_in.wait(0.2)
        leave_small.set()
        assert large_in.wait(20)
        futures.append(pool.submit(late))
        leave_large.set()
        for future in futures:
            future.result()
    assert log == ["small in", "small out", "large in", "large out", "late in"]


def test_what_fails_inside_lets_the_next_one_in(segmenter: Segmenter) -> None:
    admitting = Admission(2, 700 << 20)
    for _ in range(2):
        with pytest.raises(OSError, match="gone"), admitting.admit(plane(6000), segmenter.network):
            raise OSError("gone")


def test_a_tile_of_another_process_waits_for_nothing(segmenter: Segmenter) -> None:
    mib = 1 << 20
    admitting = Admission(2, 700 * mib)  # 305 MiB for each
    with admitting.admit_tile(300 * mib) as first, admitting.admit_tile(300 * mib) as second:
        assert (first, second) == (True, True)
        with admitting.admit_tile(310 * mib) as third:
            assert not third
    with admitting.admit_tile(600 * mib) as alone, admitting.admit_tile(1) as beside:
        assert (alone, beside) == (True, False)
    with admitting.admit_tile(620 * mib) as too_large:
        assert not too_large
    with admitting.admit(plane(6000), segmenter.network), admitting.admit_tile(1) as beside:
        assert not beside
    with admitting.admit_tile(1) as again:
        assert again
