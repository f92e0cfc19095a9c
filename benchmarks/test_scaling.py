"""Measure how time and memory grow with an image's area and its number of nuclei."""

from __future__ import annotations

from pathlib import Path

import pytest
import tifffile

from benchmarks.fields import mosaic
from benchmarks.huge_image import measure
from benchmarks.side_by_side import SideBySide
from nuclei_runtime import Segmenter
from nuclei_runtime.steps.nuclei_table import measure_nuclei

SIDES_PX = (256, 512, 1024, 2048, 4096, 8192)
NUCLEI_A_FIELD = (0, 4, 16, 64)
MAX_MEMORY = "1GiB"
SMALL_PX = 2048
"""Up to this size a round takes a second or two, so there are several."""


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter()


@pytest.mark.parametrize("side", SIDES_PX)
def test_area(side_by_side: SideBySide, segmenter: Segmenter, side: int) -> None:
    image = mosaic(side)
    is_small = side <= SMALL_PX
    side_by_side(
        lambda: segmenter.segment(image), rounds=3 if is_small else 1, warmup=is_small, megapixels=side * side / 1e6
    )


@pytest.mark.parametrize("nuclei", NUCLEI_A_FIELD)
def test_nuclei(side_by_side: SideBySide, segmenter: Segmenter, nuclei: int) -> None:
    image = mosaic(1024, nuclei)
    labels = segmenter.segment(image).labels
    side_by_side(
        lambda: measure_nuclei(image, segmenter.segment(image).labels),
        {"table": lambda: measure_nuclei(image, labels)},
        rounds=3,
        nuclei=int(labels.max()),
        megapixels=image.size / 1e6,
    )


@pytest.mark.parametrize("side", SIDES_PX)
def test_memory(side_by_side: SideBySide, tmp_path: Path, side: int) -> None:
    """Run nuclei-infer on a tiled TIFF with a memory limit, in a process of its own."""
    image = tmp_path / "image.tif"
    tifffile.imwrite(image, mosaic(side), tile=(256, 256))
    peaks: list[int] = []
    side_by_side(
        lambda: peaks.append(measure(image, tmp_path / "out", None, MAX_MEMORY).peak_bytes),
        rounds=1,
        warmup=False,
        megapixels=side * side / 1e6,
        peak_bytes=peaks,
        max_memory=MAX_MEMORY,
    )
