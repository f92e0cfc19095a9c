"""Small versions of the demonstrations in benchmarks/: real processes are killed, and watched folders have faults."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"

pytestmark = pytest.mark.skipif(os.name == "nt", reason="NOT RUN: Windows ends a process without asking it")


def demonstrate(script: str, *arguments: object) -> str:
    command = [sys.executable, str(BENCHMARKS / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_run_that_is_killed_while_it_writes_and_resumed_leaves_what_an_undisturbed_one_leaves(
    tiny_model: Path,
) -> None:
    printed = demonstrate("kill_resume.py", tiny_model, "--images", 8, "--kills", 4)
    assert "8 images, 4 kills" in printed
    assert "0 problem(s)" in printed


def test_a_watched_folder_is_finished_whatever_befalls_its_files(tiny_model: Path) -> None:
    printed = demonstrate("soak_watch.py", tiny_model, "--images", 30, "--settle", "0.4")
    assert "27 images accounted for, 3 of them broken; 0 problem(s)" in printed
