"""The training code is backend-neutral: it also fits with JAX, and without TensorFlow."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest


@pytest.mark.skipif(find_spec("jax") is None, reason="JAX is not installed, so no training with it was tried")
def test_an_epoch_with_jax(
    make_dsb_zip: Callable[..., Path], run_script: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    data, run = make_dsb_zip(tmp_path / "stage1_train.zip", range(10)), tmp_path / "run"
    done = run_script("nuclei-train", data, run, "--epochs", 1, KERAS_BACKEND="jax")
    assert done.returncode == 0, done.stderr
    content = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert (content["backend"], content["status"], content["epochs"]) == ("jax", "complete", 1)
    assert "jax" in content["versions"]
    assert (run / "best.keras").is_file()
    said = "TensorFlow is not installed, so there are no TensorBoard logs" in done.stderr.splitlines()
    assert said == (find_spec("tensorflow") is None)
    assert (run / "tensorboard").exists() == (find_spec("tensorflow") is not None)
