"""Measure where processor time goes when the sample is segmented, in one thread: the shares of whole runs."""

from __future__ import annotations

import time

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.shares import PARTS, Clock, watch
from benchmarks.side_by_side import SideBySide
from nuclei_runtime import Segmenter
from nuclei_runtime.arrays import Image, Labels
from nuclei_runtime.model.bundled import BUNDLED_MODELS
from nuclei_runtime.readers.opening import open_planes
from nuclei_runtime.readers.plane import Selection
from nuclei_runtime.steps.nuclei_table import measure_nuclei
from nuclei_runtime.writers.nuclei_csv import table_rows

ROUNDS = 3


def decode(content: bytes) -> Image:
    with open_planes(content, Selection()) as (plane,):
        return plane.read(slice(0, plane.shape[0]), slice(0, plane.shape[1]))


def measure(image: Image, labels: Labels) -> None:
    table_rows({"image": "image"}, measure_nuclei(image, labels))


@pytest.mark.benchmark(timer=time.process_time)
@pytest.mark.parametrize("precision", BUNDLED_MODELS)
def test_stages(
    side_by_side: SideBySide,
    benchmark: BenchmarkFixture,
    sample: list[bytes],
    precision: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    segmenter, clock = Segmenter(BUNDLED_MODELS[precision], threads=1), Clock()
    watch(clock, monkeypatch.setattr)
    timed_decode, timed_measure = clock.timed("decoding", decode), clock.timed("measuring", measure)
    found: list[dict[str, float]] = []

    def segment_all() -> None:
        clock.seconds.clear()
        for content in sample:
            image = timed_decode(content)
            timed_measure(image, segmenter.segment(image).labels)
        found.append(dict(clock.seconds))

    side_by_side(segment_all, rounds=ROUNDS)
    benchmark.extra_info["reference_seconds"] = {
        part: [seconds[part] for seconds in found[-ROUNDS:]] for part in PARTS if part in found[-1]
    }
