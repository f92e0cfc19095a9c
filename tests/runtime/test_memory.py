"""What a run may take, and what a real process takes."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import tifffile

from nuclei_runtime import Segmenter
from nuclei_runtime.errors import InputsError
from nuclei_runtime.memory import default_max_memory, parse_memory, resident_bytes
from nuclei_runtime.resources import memory_limit_bytes
from nuclei_runtime.synthetic import fluorescence_field
from nuclei_runtime.tiling import Tiling


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [
        ("1GiB", 1 << 30),
        ("800MB", 800_000_000),
        ("1.5 GiB", 3 << 29),
        ("2kB", 2000),
        ("64KiB", 1 << 16),
        ("7B", 7),
        (" 1TB ", 10**12),
    ],
)
def test_an_amount_of_memory_is_read(text: str, n_bytes: int) -> None:
    assert parse_memory(text) == n_bytes


@pytest.mark.parametrize("text", ["", "1", "GiB", "-1GiB", "0GiB", "1gib", "1 G", "1,5GiB", "1e9B", "inf GiB", "١GiB"])
def test_what_is_no_amount_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InputsError, match=re.escape(f"--max-memory {text}: expected a number above 0") + ".*1GiB"):
        parse_memory(text)


def test_half_of_what_there_is_may_be_taken() -> None:
    assert default_max_memory() == memory_limit_bytes() // 2
    assert 10 << 20 < resident_bytes() < memory_limit_bytes()


def test_what_this_process_holds_counts() -> None:
    alone = resident_bytes()
    held = np.ones(150 << 20, np.uint8)
    assert resident_bytes() - alone > 140 << 20
    assert held.all()


def repeated_field(side: int) -> np.ndarray:
    field, _ = fluorescence_field(2, height=250, width=250, n_nuclei=6)
    return np.tile(field, (side // 250, side // 250))


def peak_of_infer(image: Path, out: Path, model: Path, ceiling: str) -> int:
    """Run nuclei-infer under a ceiling; return the most that its processes held at any time, in bytes."""
    code = "from nuclei_runtime.cli import infer_main; infer_main()"
    command = [sys.executable, "-c", code, image, "--out", out, "--model", model, "--max-memory", ceiling]
    peak = 0
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL) as child:
        process = psutil.Process(child.pid)
        while child.poll() is None:
            try:
                peak = max(peak, sum(p.memory_info().rss for p in (process, *process.children(recursive=True))))
            except psutil.NoSuchProcess:
                break
            time.sleep(0.01)
        assert child.wait() == 0
    return peak


@pytest.fixture
def large_tiles(tiled_model: Path, tmp_path: Path) -> Path:
    """`tiled_model` with tiles as large as the real one's: a huge image in small ones takes Python's time."""
    import onnx

    from nuclei_runtime.card import METADATA_KEY

    model, card = onnx.load(tiled_model), Segmenter(tiled_model).card
    card = replace(card, input=replace(card.input, tiling=Tiling(512, 8, 2)))
    onnx.helper.set_model_props(model, {METADATA_KEY: card.to_json()})
    onnx.save(model, tmp_path / "large_tiles.onnx")
    return tmp_path / "large_tiles.onnx"


def test_a_tiled_image_stays_below_the_ceiling(tmp_path: Path, large_tiles: Path) -> None:
    """6000 x 6000 pixels, whose maps alone are 432 MB: each nucleus is found, none of it in memory at once."""
    image, ceiling = repeated_field(6000), 550 << 20
    tifffile.imwrite(tmp_path / "image.tif", image, tile=(256, 256))
    peak = peak_of_infer(tmp_path / "image.tif", tmp_path / "out", large_tiles, "550MiB")
    assert peak < ceiling
    assert peak > 100 << 20  # it was looked at
    labels = tifffile.imread(tmp_path / "out/labels/image.tif")
    assert labels.shape == image.shape
    a_corner = Segmenter(large_tiles).segment(image[:1000, :1000]).count
    assert labels.max() == pytest.approx(36 * a_corner, rel=0.02)


def test_a_network_like_the_real_one_stays_below_the_ceiling(tmp_path: Path, stem_unet: Path) -> None:
    tifffile.imwrite(tmp_path / "image.tif", repeated_field(1250), tile=(256, 256))
    peak = peak_of_infer(tmp_path / "image.tif", tmp_path / "out", stem_unet, "700MiB")
    assert peak < 700 << 20


def test_an_image_that_does_not_fit_fails_alone_with_the_reason(
    tmp_path: Path, tiny_model: Path, run_script: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    (tmp_path / "in").mkdir()
    tifffile.imwrite(tmp_path / "in/huge.tif", np.zeros((5000, 5000), np.uint8), compression="zlib")
    tifffile.imwrite(tmp_path / "in/small.tif", repeated_field(250))
    done = run_script(
        "nuclei-infer", tmp_path / "in", "--out", tmp_path / "out", "--model", tiny_model, "--max-memory", "400MiB"
    )
    assert done.returncode == 1
    assert "5000 x 5000 pixels of uint8 need about" in done.stderr
    assert "400 MiB may be used" in done.stderr
    assert (tmp_path / "out/labels/small.tif").is_file()
    assert not (tmp_path / "out/labels/huge.tif").exists()


def test_a_ceiling_that_is_no_amount_is_a_usage_error(
    tmp_path: Path, run_script: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = run_script("nuclei-infer", tmp_path, "--out", tmp_path / "out", "--max-memory", "plenty")
    assert done.returncode == 2
    assert "--max-memory plenty: expected a number above 0 with one of B, kB" in done.stderr
