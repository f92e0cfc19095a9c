"""nuclei-infer --dask as its users run it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from nuclei_runtime.checks.synthetic import fluorescence_field
from tests.contents import contents

pytest.importorskip("distributed", reason="NOT RUN: the extra dask is not installed")

RunScript = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        Image.fromarray(fluorescence_field(3, height=64, width=80, n_nuclei=4)[0]).save(tmp_path / f"in/{name}.png")
    return tmp_path / "in"


def test_processes_of_this_computer_are_started_and_ended(
    images: Path, tmp_path: Path, tiled_model: Path, run_here: RunScript, run_script: RunScript
) -> None:
    plain = run_here("nuclei-infer", images, "--out", tmp_path / "plain", "--model", tiled_model)
    done = run_script("nuclei-infer", images, "--out", tmp_path / "out", "--model", tiled_model, "--dask", "local:1")
    assert done.returncode == 0, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("cluster: 1 worker, 1 image at a time; dashboard: http://127.0.0.1:")
    assert done.stdout.replace(str(tmp_path / "out"), str(tmp_path / "plain")) == plain.stdout
    assert contents(tmp_path / "out") == contents(tmp_path / "plain")


def test_a_scheduler_that_does_not_answer_is_a_sentence_without_passwords(
    images: Path, tmp_path: Path, tiled_model: Path, run_script: RunScript
) -> None:
    arguments = (images, "--out", tmp_path / "out", "--model", tiled_model, "--dask", "tcp://me:secret@127.0.0.1:1")
    done = run_script("nuclei-infer", *arguments, DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT="1s")
    assert done.returncode == 3
    assert done.stderr.startswith("error: --dask tcp://127.0.0.1:1: no Dask scheduler answers there")
    assert "secret" not in done.stderr
    assert not (tmp_path / "out").exists()
