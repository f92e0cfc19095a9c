"""The training code is backend-neutral: it also fits with JAX."""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
from importlib.util import find_spec
from pathlib import Path

import pytest


@pytest.mark.skipif(find_spec("jax") is None, reason="JAX is not installed")
def test_an_epoch_with_jax(training_data: Path, tmp_path: Path) -> None:
    command = Path(sysconfig.get_path("scripts")) / "nuclei-train"
    run = subprocess.run(
        [command, str(training_data), str(tmp_path / "run"), "--epochs", "1", "--recipe", "baseline"],
        env={**os.environ, "KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert json.loads((tmp_path / "run" / "run.json").read_text())["backend"] == "jax"
