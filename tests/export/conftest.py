"""The model that the installed command exports from the finished training, and copies of run folders to damage."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def exported(
    finished_run: Path,
    run_script: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The ONNX file; what the command printed is in the folder above, in ``stdout.txt`` and ``stderr.txt``."""
    model = tmp_path_factory.mktemp("export") / "models" / "nuclei.onnx"
    done = run_script("nuclei-export", finished_run, model)
    assert done.returncode == 0, done.stderr
    (model.parents[1] / "stdout.txt").write_text(done.stdout, encoding="utf-8")
    (model.parents[1] / "stderr.txt").write_text(done.stderr, encoding="utf-8")
    return model


@pytest.fixture
def copied_run(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of what an export reads of the finished training's run folder."""
    target = tmp_path / "copied_run"
    target.mkdir()
    for name in ("run.json", "best.keras"):
        shutil.copy(finished_run / name, target / name)
    return target
