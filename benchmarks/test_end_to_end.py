"""A folder as users run it: label images, outlines and tables written."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.beside import Beside
from nuclei_runtime.run import FolderRun, RunConfig
from nuclei_runtime.session import BUNDLED_MODELS


@pytest.mark.parametrize("precision", BUNDLED_MODELS)
def test_folder_with_writing(beside: Beside, sample: list[bytes], tmp_path: Path, precision: str) -> None:
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
        config = RunConfig((str(folder),), tmp_path / f"out{next(numbers)}", model=BUNDLED_MODELS[precision])
        with FolderRun(config) as running:
            assert all(outcome.is_ok for outcome in running.outcomes())

    beside(run, rounds=3, megapixels=megapixels, images=len(sample))
