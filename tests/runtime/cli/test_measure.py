"""The command nuclei-measure, as a person uses it after a correction."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from nuclei_runtime.checks.synthetic import fluorescence_field

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def results(tmp_path: Path, tiny_model: Path, run_here: Run) -> Path:
    """A run over two images, and the label image of one of them corrected in its place."""
    (tmp_path / "in").mkdir()
    for seed, name in enumerate(("a.png", "b.png")):
        Image.fromarray(fluorescence_field(seed, height=96, width=120, n_nuclei=9)[0]).save(tmp_path / "in" / name)
    run_here("nuclei-infer", tmp_path / "in", "--out", tmp_path / "r", "--model", tiny_model)
    labels = tifffile.imread(tmp_path / "r/labels/a.tif")
    labels[labels == 1] = 0
    tifffile.imwrite(tmp_path / "r/labels/a.tif", labels)
    return tmp_path / "r"


def test_resume_keeps_a_correction_and_measure_counts_it(
    results: Path, tiny_model: Path, run_here: Run, run_script: Run
) -> None:
    images, out = results.parent / "in", results.parent / "m"
    before = (results / "labels/a.tif").read_bytes()
    done = run_here("nuclei-infer", images, "--out", results, "--model", tiny_model, "--resume")
    assert (done.returncode, done.stderr) == (1, "kept: a.png: labels/a.tif was changed after the run\n")
    assert (
        "kept, because somebody changed them after the run: results of 1 image; the tables show what was there before"
        in done.stdout
    )
    assert "measure corrected labels with nuclei-measure" in done.stdout
    assert (results / "labels/a.tif").read_bytes() == before
    done = run_script("nuclei-measure", results, images, "--out", out)
    assert (done.returncode, done.stderr) == (0, "")
    n_nuclei = len(np.unique(tifffile.imread(out / "labels/a.tif"))) + len(
        np.unique(tifffile.imread(out / "labels/b.tif"))
    )
    assert f"compared with the labels before the correction: 1 removed, {n_nuclei - 2} unchanged" in done.stdout
    assert (out / "overlays/a.png").is_file()
    done = run_here("nuclei-measure", results, images, "--out", out, "--verify")
    (line,) = done.stdout.splitlines()
    assert (done.returncode, line.endswith("are unchanged (provenance, images and tables)")) == (0, True)


def test_no_onnx_runtime_is_needed(results: Path, tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['onnxruntime'] = None; from nuclei_runtime.cli.measure import main; "
        f"sys.argv[1:] = [{str(results)!r}, {str(tmp_path / 'in')!r}, '--out', {str(tmp_path / 'm')!r}]; main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_is_not_paired_is_named(results: Path, tmp_path: Path, run_here: Run) -> None:
    folder = tmp_path / "given"
    folder.mkdir()
    for name in ("a.tif", "other.tif"):
        (folder / name).write_bytes((results / "labels/b.tif").read_bytes())
    done = run_here("nuclei-measure", folder, tmp_path / "in", "--out", tmp_path / "m")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "failed: other.tif: no image has this name",
        "not measured, because they have no labels: b.png",
    ]


def test_the_results_that_were_corrected_are_not_written_over(results: Path, tmp_path: Path, run_here: Run) -> None:
    done = run_here("nuclei-measure", results, tmp_path / "in", "--out", results, "--overwrite")
    assert (done.returncode, "choose another folder" in done.stderr) == (2, True)
    assert (results / "labels/a.tif").is_file()
