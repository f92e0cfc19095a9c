"""Measure a whole process, with files in the system's cache: one image, and imports alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path

from PIL import Image

from benchmarks.fields import mosaic
from benchmarks.side_by_side import SideBySide

LIBRARIES = "import numpy, scipy, skimage, onnxruntime"
USED_PARTS = "import numpy, scipy.ndimage, skimage.measure, skimage.segmentation, onnxruntime"
INFER = "from nuclei_runtime.cli.infer import main; main()"


def python(code: str, *arguments: str) -> Callable[[], object]:
    command = [sys.executable, "-c", code, *arguments]
    return lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def test_one_image_and_its_libraries(side_by_side: SideBySide, tmp_path: Path) -> None:
    image = tmp_path / "image.png"
    Image.fromarray(mosaic(256)).save(image)
    numbers = count()

    def run() -> None:
        out = tmp_path / f"out{next(numbers)}"
        python(INFER, str(image), "--out", str(out))()
        assert (out / "labels" / "image.tif").is_file()

    side_by_side(run, {"libraries": python(LIBRARIES), "used parts": python(USED_PARTS)}, rounds=7)


def test_import_and_numpy(side_by_side: SideBySide) -> None:
    side_by_side(
        python("import nuclei_runtime"), {"numpy": python("import numpy"), "nothing": python("pass")}, rounds=7
    )
