"""nuclei-doctor: what it finds, what it reports as a problem with its fix, and the sample that it replays."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nuclei_runtime.checks.doctor import diagnose
from nuclei_runtime.checks.sample import (
    MAX_SAMPLE_BYTES,
    ReplaySample,
    read_sample,
    replay_sample,
    sample_path,
    write_sample,
)
from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.errors import ModelFormatError, ModelNotFoundError
from nuclei_runtime.model.session import available_providers
from nuclei_runtime.segmentation.segmenter import Segmenter
from nuclei_runtime.steps.scale import Scale
from nuclei_runtime.steps.view import View

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def model(tmp_path: Path, make_tiny_model: Callable[..., Path]) -> Path:
    """A model with its sample next to it."""
    path = make_tiny_model(tmp_path / "tiny.onnx")
    segmenter = Segmenter(path)
    image = fluorescence_field(5, height=90, width=110, n_nuclei=8)[0]
    (maps,) = segmenter.predict([image])
    write_sample(sample_path(path), ReplaySample(image, maps, segmenter.find_instances(maps).labels))
    return path


def change(model: Path, **arrays: np.ndarray) -> None:
    write_sample(sample_path(model), replace(read_sample(sample_path(model)), **arrays))


def test_a_sample_comes_back_as_it_was_written(tmp_path: Path) -> None:
    image, labels = fluorescence_field(1, height=20, width=30)
    sample = ReplaySample(image, np.linspace(0, 1, 1800, dtype=np.float32).reshape(20, 30, 3), labels)
    path = sample_path(tmp_path / "nuclei.onnx")
    assert path.name == "nuclei.sample.npz"
    write_sample(path, sample)
    read = read_sample(path)
    for name in ("image", "maps", "labels"):
        np.testing.assert_array_equal(getattr(read, name), getattr(sample, name))
        assert getattr(read, name).dtype == getattr(sample, name).dtype


def test_a_replay_measures_the_difference(model: Path) -> None:
    segmenter, path = Segmenter(model), sample_path(model)
    same = replay_sample(segmenter, path)
    assert same.ok
    assert same.difference <= same.tolerance == segmenter.card.tolerance
    maps = read_sample(path).maps.copy()
    maps[4, 5, -1] = 1 - maps[4, 5, -1]
    change(model, maps=maps)
    other = replay_sample(segmenter, path)
    assert not other.ok
    assert other.difference > 0.5
    change(model, maps=read_sample(path).maps + np.float32(np.nan))
    assert not replay_sample(segmenter, path).ok


@pytest.mark.parametrize(
    "option",
    [{"tta": True}, {"diameter_px": 50}, {"stain": "he"}, {"view": View(Scale(1, 2))}],
    ids=["tta", "diameter_px", "stain", "view"],
)
def test_a_segmenter_that_changes_images_is_not_replayed(option: dict[str, Any], tiled_model: Path) -> None:
    with pytest.raises(ValueError, match="a sample is replayed without tta, diameter_px, stain and view"):
        replay_sample(Segmenter(tiled_model, **option), sample_path(tiled_model))


def test_a_replay_finds_other_labels(model: Path) -> None:
    labels = read_sample(sample_path(model)).labels.copy()
    labels[labels == labels.max()] = 0
    change(model, labels=labels)
    replay = replay_sample(Segmenter(model), sample_path(model))
    assert replay.difference <= replay.tolerance
    assert not replay.labels_equal
    assert not replay.ok


def test_a_damaged_sample_is_an_error(model: Path) -> None:
    path = sample_path(model)
    change(model, labels=np.zeros((3, 3), np.int32))
    with pytest.raises(ModelFormatError, match="one height and width"):
        read_sample(path)
    np.savez(path, image=np.zeros((2, 2)))
    with pytest.raises(ModelFormatError, match="maps"):
        read_sample(path)
    np.savez(path, image=np.array([{}], dtype=object), maps=np.zeros(1), labels=np.zeros(1))
    with pytest.raises(ModelFormatError):  # a pickle is not opened
        read_sample(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ModelFormatError):
        read_sample(path)
    path.unlink()
    with pytest.raises(ModelNotFoundError, match=r"tiny\.sample\.npz"):
        read_sample(path)


def test_a_sample_that_claims_more_than_memory_holds_is_refused(tmp_path: Path) -> None:
    """In the zip's directory, where a few bytes may claim to be many, and in the header of an array."""
    path = tmp_path / "model.sample.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("image.npy", b"")
    content = bytearray(path.read_bytes())
    listed = content.index(b"PK\x01\x02") + 24  # the size that the list claims: APPNOTE.TXT 4.3.12
    content[listed : listed + 4] = struct.pack("<I", MAX_SAMPLE_BYTES + 1)
    path.write_bytes(content)
    with pytest.raises(ModelFormatError, match=f"unpacks to {MAX_SAMPLE_BYTES + 1} bytes, expected at most"):
        read_sample(path)
    header = io.BytesIO()
    claimed = {"descr": "<f4", "fortran_order": False, "shape": (10**7, 10**7)}
    np.lib.format.write_array_header_1_0(header, claimed)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("image.npy", header.getvalue() + bytes(100))
    with pytest.raises(ModelFormatError, match="the sample cannot be read"):
        read_sample(path)


def test_the_sample_of_another_model_is_an_error(tiled_model: Path, model: Path, tmp_path: Path, run_here: Run) -> None:
    path = sample_path(model)
    with pytest.raises(ModelFormatError, match=r"maps are \(90, 110, 1\), the model gives \(90, 110, 3\)"):
        replay_sample(Segmenter(tiled_model), path)
    other = shutil.copy(tiled_model, tmp_path / "tiled.onnx")
    shutil.copy(path, sample_path(other))
    done = run_here("nuclei-doctor", "--model", other)
    assert done.returncode == 3
    assert "copy the sample that belongs to the model" in done.stdout


def test_all_is_good(model: Path, run_script: Run) -> None:
    done = run_script("nuclei-doctor", "--model", model)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    lines = done.stdout.splitlines()
    assert lines[-1] == "OK"
    for package in ("numpy", "scipy", "scikit-image", "pillow", "tifffile"):
        assert any(line.split() == [package, version(package)] for line in lines)
    for provider in available_providers():
        assert sum(line.startswith(f"{provider}: ") for line in lines) == 1
    assert sum(line.split() == ["SHA-256", Segmenter(model).model_sha256] for line in lines) == 1
    (cpu,) = (line for line in lines if line.startswith("CPUExecutionProvider"))
    assert "tiny 0" in cpu
    assert "allowed: 1e-05" in cpu
    for word in ("granted", "memory", "onnxruntime"):
        assert word in done.stdout


def test_a_model_that_computes_something_else_is_a_problem(model: Path, run_here: Run) -> None:
    change(model, maps=1 - read_sample(sample_path(model)).maps)
    done = run_here("nuclei-doctor", "--model", model)
    assert done.returncode == 3
    assert "OK" not in done.stdout.splitlines()
    assert "problem: CPUExecutionProvider computes probabilities that differ" in done.stdout


def test_a_sample_or_a_model_that_is_not_there_is_a_problem(model: Path, run_here: Run) -> None:
    sample_path(model).unlink()
    (problem,) = diagnose(model).problems
    assert "tiny.sample.npz" in problem
    model.unlink()
    (problem,) = diagnose(model).problems
    assert "tiny.onnx" in problem
    done = run_here("nuclei-doctor", "--model", model)
    assert done.returncode == 3


def test_two_builds_of_onnx_runtime_are_a_problem(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = tmp_path / "site" / "onnxruntime_gpu-1.20.0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: 1.20.0\n")
    (installed / "top_level.txt").write_text("onnxruntime\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    diagnosis = diagnose(model)
    (problem,) = diagnosis.problems
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in problem
    assert any("onnxruntime-gpu 1.20.0" in line for line in diagnosis.lines)


def test_what_is_not_installed_is_a_problem_with_its_pip_line(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path / "no packages here")])
    problems = diagnose(model).problems
    assert 'onnxruntime is not installed; pip install "nuclei-edge[cpu]"' in problems
    assert "scipy is not installed; pip install scipy" in problems


def test_the_bundled_model_replays_its_sample(run_here: Run) -> None:
    done = run_here("nuclei-doctor")
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1] == "OK"
