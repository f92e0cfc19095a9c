"""A program of ten lines, frozen by the installed PyInstaller, segments an image with the bundled model."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest

import nuclei_runtime
from nuclei_runtime import BUNDLED_MODELS, Segmenter
from nuclei_runtime._pyinstaller import hook_directories
from nuclei_runtime.checks.synthetic import fluorescence_field

PROGRAM = """
import json, sys
import numpy as np
import nuclei_runtime
from nuclei_runtime import BUNDLED_MODELS, Segmenter, read_image, replay_sample, sample_path

image = np.load(sys.argv[1])
results = {precision: Segmenter(precision=precision, threads=1).segment(image) for precision in BUNDLED_MODELS}
replay = replay_sample(Segmenter(), sample_path(BUNDLED_MODELS["fp32"]))
area = results["fp32"].table(image)["area"].sum()
outlines = len(results["fp32"].outlines())
counts = {precision: result.count for precision, result in results.items()}
print(json.dumps([nuclei_runtime.__version__, counts, area, outlines, replay.ok, read_image.__name__]))
"""

NOT_USED = (
    *("tensorflow", "keras", "jax", "torch", "onnx", "tf2onnx", "pandas", "matplotlib", "sympy", "zarr", "imagecodecs"),
    *("pytest", "hypothesis", "IPython", "tkinter"),
)
"""Packages that other packages import where they are installed, and that PyInstaller would follow for minutes."""


def test_pyinstaller_finds_the_hook() -> None:
    (found,) = (one for one in entry_points(group="pyinstaller40") if one.value.startswith("nuclei_runtime"))
    assert found.load() is hook_directories
    (folder,) = hook_directories()
    assert [path.name for path in Path(folder).glob("hook-*.py")] == ["hook-nuclei_runtime.py"]


def test_the_hook_collects_the_library_and_neither_its_commands_nor_itself() -> None:
    pytest.importorskip("PyInstaller", reason="NOT RUN: PyInstaller is not installed; pip install pyinstaller")
    (hook,) = Path(hook_directories()[0]).glob("hook-*.py")
    collected = runpy.run_path(str(hook))["hiddenimports"]
    rooms = {name.split(".")[1] for name in collected if "." in name}
    assert {"segmentation", "model", "readers", "checks"} <= rooms
    assert not {"cli", "_pyinstaller"} & rooms


def test_a_frozen_program_does_what_it_does_unfrozen(tmp_path: Path) -> None:
    pytest.importorskip("PyInstaller", reason="NOT RUN: PyInstaller is not installed; pip install pyinstaller")
    image = fluorescence_field(1, height=160, width=160)[0]
    np.save(tmp_path / "image.npy", image)
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    excluded = [word for package in NOT_USED for word in ("--exclude-module", package)]
    command = [sys.executable, "-m", "PyInstaller", "--log-level", "WARN", "--specpath", ".", *excluded, "program.py"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    program = tmp_path / "dist" / "program" / "program"
    # Without this environment: everything the program needs is in its folder.
    environment = {} if os.name == "posix" else {"SYSTEMROOT": os.environ["SYSTEMROOT"]}
    done = subprocess.run([program, "image.npy"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    expected = Segmenter().segment(image)
    counts = {precision: Segmenter(precision=precision).segment(image).count for precision in BUNDLED_MODELS}
    assert min(counts.values()) > 5
    area = int((expected.labels > 0).sum())
    assert json.loads(done.stdout) == [
        nuclei_runtime.__version__,
        counts,
        area,
        expected.count,
        True,
        "read_image",
    ]
