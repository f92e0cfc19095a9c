"""The training code is backend-neutral: it also fits with JAX, and without TensorFlow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from nuclei_train.data.pack import pack


@pytest.mark.skipif(find_spec("jax") is None, reason="JAX is not installed, so no training with it was tried")
def test_an_epoch_with_jax(
    make_dsb_zip: Callable[..., Path], run_script: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    data, run = make_dsb_zip(tmp_path / "stage1_train.zip", range(10)), tmp_path / "run"
    done = run_script("nuclei-train", data, run, "--recipe", "baseline", "--epochs", 1, KERAS_BACKEND="jax")
    assert done.returncode == 0, done.stderr
    content = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert (content["backend"], content["status"], content["epochs"]) == ("jax", "complete", 1)
    assert "jax" in content["versions"]
    assert (run / "best.keras").is_file()
    said = "TensorFlow is not installed, so no TensorBoard logs are written" in done.stderr.splitlines()
    assert said == (find_spec("tensorflow") is None)
    assert (run / "tensorboard").exists() == (find_spec("tensorflow") is not None)


SMALL_NATIVE = """
import sys
from dataclasses import replace
from pathlib import Path

from nuclei_train.fitting.fit import TrainingConfig, train
from nuclei_train.fitting.reporter import Reporter
from nuclei_train.recipes.native import Native

small = replace(Native(), epochs=1, steps_per_epoch=2, batch_size=2, filters=4, crop_px=64, validation_batches=1)
train(TrainingConfig(Path(sys.argv[1]), Path(sys.argv[2]), small, False), Reporter())
"""


@pytest.mark.skipif(find_spec("jax") is None, reason="JAX is not installed, so no training with it was tried")
def test_an_epoch_of_native_with_jax(make_dsb_zip: Callable[..., Path], tmp_path: Path) -> None:
    """From a packed file, and from Python, because the command's epochs are long."""
    file, run = tmp_path / "pack.zip", tmp_path / "run"
    pack(make_dsb_zip(tmp_path / "stage1_train.zip", range(10)), file, lambda *_: None, lambda *_: None)
    done = subprocess.run(
        [sys.executable, "-c", SMALL_NATIVE, str(file), str(run)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "KERAS_BACKEND": "jax"},
    )
    assert done.returncode == 0, done.stderr
    content = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert (content["backend"], content["status"], content["recipe"]["name"]) == ("jax", "complete", "native")
    assert (run / "inference.keras").is_file()
