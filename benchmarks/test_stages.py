"""Measure where processor time goes: each stage on the sample, in one thread, so that the shares add up."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.peers.nuclei_edge import counter
from benchmarks.side_by_side import SideBySide
from nuclei_runtime import Segmenter
from nuclei_runtime.arrays import Image
from nuclei_runtime.model.bundled import BUNDLED_MODELS
from nuclei_runtime.readers.opening import open_planes
from nuclei_runtime.readers.plane import Selection
from nuclei_runtime.steps.instances import find_instances
from nuclei_runtime.steps.nuclei_table import measure_nuclei
from nuclei_runtime.steps.preprocess import preprocess
from nuclei_runtime.steps.tiling import run_tiled
from nuclei_runtime.writers.nuclei_csv import table_rows


def decode(content: bytes) -> Image:
    with open_planes(content, Selection()) as (plane,):
        return plane.read(slice(0, plane.shape[0]), slice(0, plane.shape[1]))


def each(function: Callable[..., Any], *columns: Sequence[Any]) -> Callable[[], list[Any]]:
    return lambda: [function(*row) for row in zip(*columns, strict=True)]


@pytest.mark.benchmark(timer=time.process_time)
@pytest.mark.parametrize("precision", BUNDLED_MODELS)
def test_stages(side_by_side: SideBySide, sample: list[bytes], precision: str) -> None:
    segmenter = Segmenter(BUNDLED_MODELS[precision], threads=1)
    card, tiling = segmenter.card, segmenter.card.input.tiling
    assert tiling is not None
    tiles: list[NDArray[np.float32]] = []

    def recorded(tile: NDArray[np.float32]) -> NDArray[np.float32]:
        tiles.append(tile)
        return segmenter.network.run(tile)

    def no_network(tile: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.empty((*tile.shape[:3], len(card.output.maps)), np.float32)

    images = [decode(content) for content in sample]
    inputs = [preprocess(image, card.preprocessing) for image in images]
    maps = [run_tiled(recorded, one, tiling) for one in inputs]
    labels = [find_instances(one, card.postprocessing) for one in maps]
    stages = {
        "decode": each(decode, sample),
        "preprocess": each(lambda image: preprocess(image, card.preprocessing), images),
        "network": each(segmenter.network.run, tiles),
        "tile and stitch": each(lambda one: run_tiled(no_network, one, tiling), inputs),
        "instances": each(lambda one: find_instances(one, card.postprocessing), maps),
        "table": each(
            lambda image, found: table_rows({"image": "image"}, measure_nuclei(image, found)), images, labels
        ),
    }
    # No warm-up: the stages have already run once, and a round takes seconds.
    side_by_side(each(counter(segmenter), sample), stages, rounds=2, warmup=False, timer=time.process_time)
