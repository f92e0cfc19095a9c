"""Scratch folders go with their process, or with the next one."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from nuclei_runtime.stores import scratch

LEAVE_ONE = """
import os
from nuclei_runtime.stores.scratch import scratch_folder
with scratch_folder() as folder:
    (folder / "image.tif").touch()
    print(folder, flush=True)
    os._exit(1) if input() == "die" else None
"""


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_needs_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    command = [sys.executable, "-c", LEAVE_ONE]
    killed = Path(subprocess.run(command, input="die", capture_output=True, text=True, check=False).stdout.strip())
    assert (killed / "image.tif").is_file()
    (tmp_path / "nuclei-scratch-of-the-user").mkdir()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as living:
        assert living.stdin is not None
        assert living.stdout is not None
        its = Path(living.stdout.readline().strip())
        assert not killed.exists()
        with scratch.scratch_folder() as own, scratch.scratch_folder() as other:
            assert sorted(tmp_path.iterdir()) == sorted([own, other, its, tmp_path / "nuclei-scratch-of-the-user"])
        living.communicate("end")
    assert list(tmp_path.iterdir()) == [tmp_path / "nuclei-scratch-of-the-user"]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system keeps the time at which a process began")
def test_a_clock_that_is_set_makes_no_process_look_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    later = """
import psutil._pslinux as system
from nuclei_runtime.stores.scratch import scratch_folder
at_boot = system.boot_time
system.boot_time = lambda: at_boot() + 2
with scratch_folder():
    pass
"""
    with scratch.scratch_folder() as own:
        subprocess.run([sys.executable, "-c", later], check=True)
        assert own.is_dir()
