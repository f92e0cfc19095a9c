"""The Node.js program that implements docs/card.md: another language, the same file, the same probabilities."""

from __future__ import annotations

import os
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from nuclei_runtime.checks.sample import ReplaySample, read_sample, sample_path, write_sample
from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.model.bundled import BUNDLED_MODEL
from nuclei_runtime.segmentation.segmenter import Segmenter

PROGRAM = Path(__file__).parents[3] / "docs" / "node"
NODE_VERSION = 20

Run = Callable[[Path, Path, Path], subprocess.CompletedProcess[str]]


def execute(*command: str | Path, cwd: Path, seconds: float = 300) -> subprocess.CompletedProcess[str]:
    """Run without a home folder to write to."""
    variables = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    return subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=seconds,
        check=False,
    )


@pytest.fixture(scope="module")
def run_node() -> Iterator[Run]:
    """The program with its pinned packages (300 MB) in a folder that is removed after the tests."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("NOT RUN: Node.js or npm is not installed")
    with TemporaryDirectory(prefix="nuclei-edge-node-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        version = execute(node, "--version", cwd=folder).stdout.strip()
        if int(version.removeprefix("v").split(".")[0]) < NODE_VERSION:
            pytest.skip(f"NOT RUN: Node.js {version} is older than {NODE_VERSION}")
        for source in ("package.json", "package-lock.json", ".npmrc", "run.mjs"):
            shutil.copy(PROGRAM / source, folder)
        installed = execute(npm, "ci", "--no-audit", "--no-fund", "--prefer-offline", cwd=folder)
        if installed.returncode != 0:
            pytest.skip(f"NOT RUN: npm cannot fetch the packages: {installed.stderr.strip()[-300:]}")
        yield lambda model, image, maps: execute(node, "run.mjs", model, image, maps, cwd=folder)


def maps_of_node(run_node: Run, model: Path, image: Path, folder: Path) -> np.ndarray:
    done = run_node(model, image, folder / "node.npy")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return np.load(folder / "node.npy", allow_pickle=False)


def write_sample_of(model: Path, image: np.ndarray, folder: Path) -> Path:
    """Write a model's sample of an image as the export does, and return it."""
    segmenter = Segmenter(model)
    (maps,) = segmenter.predict([image])
    path = sample_path(folder / model.name)
    write_sample(path, ReplaySample(image, maps, segmenter.find_instances(maps).labels))
    return path


def compare(run_node: Run, model: Path, sample: Path, folder: Path) -> None:
    """Unpack the sample as docs/embedding.md says, and compare Node's maps with it."""
    with zipfile.ZipFile(sample) as archive:
        archive.extract("image.npy", folder)
    expected = read_sample(sample).maps
    maps = maps_of_node(run_node, model, folder / "image.npy", folder)
    assert maps.shape == expected.shape
    assert maps.dtype == np.float32
    assert expected.max() - expected.min() > 0.5, "a flat picture proves nothing"
    assert np.abs(maps - expected).max() <= Segmenter(model).card.tolerance


def test_the_bundled_model_gives_its_sample(run_node: Run, tmp_path: Path) -> None:
    compare(run_node, BUNDLED_MODEL, sample_path(BUNDLED_MODEL), tmp_path)


GREY = fluorescence_field(4, height=93, width=70, n_nuclei=9)[0]
WIDE = np.random.default_rng(5).random((20, 300, 3), dtype=np.float32)
DEEP = np.dstack([GREY * np.uint16(257), GREY * np.uint16(200), GREY + np.uint16(900), np.full_like(GREY, 9)])
SPOTTED = GREY.astype(np.float32)
SPOTTED[40:46, 40:46] = 9e4
BLUE = np.dstack([GREY // 9, GREY * 0, GREY])
CYAN = np.dstack([GREY * 0 + 3, GREY, np.maximum(GREY, 9)]).astype(np.float32)
IMAGES = {
    "blue": BLUE,
    "cyan": CYAN,
    "grey": GREY,
    "RGB float": WIDE,
    "RGBA 16 bit": DEEP,
    "thin": GREY[20:23, :67],
    "debris": SPOTTED,
}


@pytest.mark.parametrize("name", ["grey", "RGBA 16 bit", "thin", "debris", "blue", "cyan"])
def test_a_tiled_model_gives_its_sample(run_node: Run, tiled_model: Path, tmp_path: Path, name: str) -> None:
    compare(run_node, tiled_model, write_sample_of(tiled_model, IMAGES[name], tmp_path), tmp_path)


@pytest.mark.parametrize("name", ["RGB float", "RGBA 16 bit"])
def test_a_model_of_fixed_size_gives_its_sample(run_node: Run, tiny_model: Path, tmp_path: Path, name: str) -> None:
    """Images that shrink along one axis and grow along the other."""
    compare(run_node, tiny_model, write_sample_of(tiny_model, IMAGES[name], tmp_path), tmp_path)


def test_an_image_without_contrast_gives_what_python_gives(run_node: Run, tiled_model: Path, tmp_path: Path) -> None:
    image = np.full((40, 50, 1), 7, np.uint8)
    np.save(tmp_path / "flat.npy", image)
    (expected,) = Segmenter(tiled_model).predict([image])
    np.testing.assert_array_equal(maps_of_node(run_node, tiled_model, tmp_path / "flat.npy", tmp_path), expected)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (np.zeros((9, 8, 2), np.uint8), "found an array of shape (9, 8, 2), expected (H, W)"),
        (np.zeros((0, 8), np.uint8), "found an array of shape (0, 8), expected (H, W)"),
        (np.full((9, 8), np.nan, np.float32), "found values that are NaN or infinite"),
    ],
)
def test_what_python_refuses_is_refused(
    run_node: Run, tiled_model: Path, tmp_path: Path, image: np.ndarray, reason: str
) -> None:
    np.save(tmp_path / "image.npy", image)
    done = run_node(tiled_model, tmp_path / "image.npy", tmp_path / "maps.npy")
    assert done.returncode != 0
    assert reason in done.stderr
    assert not (tmp_path / "maps.npy").exists()


def test_a_model_without_a_card_is_an_error(
    run_node: Run, tmp_path: Path, make_tiny_model: Callable[..., Path]
) -> None:
    np.save(tmp_path / "image.npy", GREY)
    model = make_tiny_model(tmp_path / "bare.onnx", {})
    done = run_node(model, tmp_path / "image.npy", tmp_path / "maps.npy")
    assert done.returncode != 0
    assert "no model card in the file" in done.stderr
    assert not (tmp_path / "maps.npy").exists()
