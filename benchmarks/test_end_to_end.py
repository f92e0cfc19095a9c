"""Segment a folder as users do, with all results written, and measure each way of running the model."""

from __future__ import annotations

from dataclasses import asdict
from itertools import count
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.side_by_side import SideBySide
from benchmarks.test_stages import decode
from nuclei_runtime import Segmenter, SegmenterOptions
from nuclei_runtime.model.bundled import BUNDLED_MODELS
from nuclei_runtime.runs.config import RunConfig
from nuclei_runtime.runs.run import FolderRun


@pytest.mark.parametrize("precision", BUNDLED_MODELS)
def test_folder_with_writing(side_by_side: SideBySide, sample: list[bytes], tmp_path: Path, precision: str) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    megapixels = 0.0
    for index, content in enumerate(sample):
        path = folder / f"{index}.png"
        path.write_bytes(content)
        with Image.open(path) as image:
            megapixels += image.width * image.height / 1e6
    numbers = count()

    def run() -> None:
        config = RunConfig(
            (str(folder),), tmp_path / f"out{next(numbers)}", options=SegmenterOptions(precision=precision)
        )
        with FolderRun(config) as running:
            assert all(outcome.is_ok for outcome in running.outcomes())

    side_by_side(run, rounds=3, megapixels=megapixels, images=len(sample))


@pytest.mark.parametrize("tta", [False, True])
@pytest.mark.parametrize("precision", BUNDLED_MODELS)
def test_variants(side_by_side: SideBySide, sample: list[bytes], precision: str, tta: bool) -> None:
    """One image at a time; the scores are those in the model's card, which are without test-time augmentation."""
    segmenter = Segmenter(precision=precision, tta=tta)
    images = [decode(content) for content in sample]
    side_by_side(
        lambda: [segmenter.segment(image) for image in images],
        rounds=2,
        megapixels=sum(image.shape[0] * image.shape[1] for image in images) / 1e6,
        model_mb=BUNDLED_MODELS[precision].stat().st_size / 1e6,
        scores=[] if tta else [asdict(score) for score in segmenter.card.evaluation],
    )
