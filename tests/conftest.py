"""Fixtures that several tests share: tiny models, synthetic data in the layout of DSB2018, and the real data."""

from __future__ import annotations

import io
import os
import platform
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.model.card import METADATA_KEY, SCHEMA_VERSION, InputSpec, ModelCard, OutputSpec
from nuclei_runtime.resources import cpu_count
from nuclei_runtime.steps.step import MAPS, Step
from nuclei_runtime.steps.tiling import Tiling
from tests.contents import png_bytes

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
"""For tests that import ONNX Runtime themselves. The runtime sets it itself; another test proves that."""

for variable in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
    # Each process of `pytest -n 2` uses its share of the processors, and so do the processes that it starts.
    n_workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
    os.environ.setdefault(variable, str(max(1, cpu_count() // n_workers)))

REAL_DATA_VARIABLE, VENDOR_VARIABLE = "NUCLEI_DSB2018_DIR", "NUCLEI_VENDOR_DIR"
FORMAT_PACKAGES = (
    "pylibCZIrw",
    "nd2",
    "liffile",
    "mrc",
    "oiffile",
    "openslide-python",
    "slideio",
    "imagecodecs",
    "zarr",
)

AFTER_TRAINING = ("tests/export/", "tests/train/fine_tuning/", "tests/train/fitting/", "tests/train/recipes/")
"""Folders of tests that use the trained networks `finished_run` and `native_run`."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each process whole files, and one process all tests of the trained networks, so that it trains them once."""
    from xdist.scheduler import LoadScopeScheduling

    class Files(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return AFTER_TRAINING[0] if nodeid.startswith(AFTER_TRAINING) else nodeid.partition("::")[0]

    return Files(config, log)


def pytest_report_header() -> list[str]:
    packages = ["numpy", "scipy", "scikit-image", "onnxruntime", "onnx", "tf2onnx", "tensorflow", "keras", "jax"]
    packages += FORMAT_PACKAGES
    found = []
    for package in packages:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} absent")
    data = os.environ.get(REAL_DATA_VARIABLE, "not set: TESTS ON THE REAL DATA WILL NOT RUN")
    files = os.environ.get(VENDOR_VARIABLE, "not set: TESTS ON FILES OF MICROSCOPES WILL NOT RUN")
    return [
        f"nuclei-edge: python {platform.python_version()}, " + ", ".join(found),
        f"{REAL_DATA_VARIABLE}: {data}",
        f"{VENDOR_VARIABLE}: {files}",
    ]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with the real DSB2018 zips."""
    folder = os.environ.get(REAL_DATA_VARIABLE)
    if not folder:
        pytest.skip(f"NOT RUN: {REAL_DATA_VARIABLE} does not name the folder of the DSB2018 zips")
    path = Path(folder)
    if not (path / "stage1_train.zip").is_file():
        pytest.fail(f"{REAL_DATA_VARIABLE}={folder} holds no stage1_train.zip")
    return path


@pytest.fixture(scope="session")
def vendor_files() -> Path:
    """The folder with files that microscopes and slide scanners wrote, a subfolder for each format."""
    folder = os.environ.get(VENDOR_VARIABLE)
    if not folder:
        pytest.skip(f"NOT RUN: {VENDOR_VARIABLE} does not name the folder of files that microscopes wrote")
    path = Path(folder)
    if not list(path.glob("czi/*.czi")):
        pytest.fail(f"{VENDOR_VARIABLE}={folder} holds no czi/*.czi")
    return path


def tiny_card() -> ModelCard:
    """The card of `tiny_model`."""
    return ModelCard(
        schema_version=SCHEMA_VERSION,
        name="tiny",
        version="0",
        license="BSD-3-Clause",
        description="foreground is where the mean of the channels is above 0.35",
        input=InputSpec("image", 128, 128, 3, tiling=None),
        preprocessing=(
            Step("percentile_normalisation", {"lower": 1.0, "upper": 99.8}),
            Step("resize", {"height": 128, "width": 128}),
        ),
        output=OutputSpec("foreground", ("foreground",)),
        postprocessing=Step("connected_components", {"threshold": 0.5, "min_area_px": 16}),
        training_nucleus_diameter_px=18.0,
        tolerance=1e-5,
        evaluation=(),
        provenance={"graph_sha256": "none"},
        limitations=("a threshold, not a network",),
    )


def write_tiny_model(path: Path, metadata: dict[str, str] | None = None, *, size: int = 128) -> Path:
    """Write an ONNX model that thresholds the mean of the channels. `metadata` replaces the card."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    constants = {
        "axes": np.array([3], np.int64),
        "middle": np.array(0.35, np.float32),
        "steepness": np.array(30.0, np.float32),
    }
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["image", "axes"], ["mean"], keepdims=1),
            helper.make_node("Sub", ["mean", "middle"], ["centred"]),
            helper.make_node("Mul", ["centred", "steepness"], ["steep"]),
            helper.make_node("Sigmoid", ["steep"], ["foreground"]),
        ],
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", size, size, 3])],
        [helper.make_tensor_value_info("foreground", TensorProto.FLOAT, ["batch", size, size, 1])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, {METADATA_KEY: tiny_card().to_json()} if metadata is None else metadata)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ONNX file with the card `tiny_card`."""
    return write_tiny_model(tmp_path_factory.mktemp("tiny") / "tiny.onnx")


TILING = Tiling(core_px=32, halo_px=8, multiple_of_px=2)


def write_tiled_model(path: Path) -> Path:
    """Write an ONNX model of convolutions that takes any even size and returns all maps. See `tiled_model`."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = {
        "smooth": np.full((1, 3, 3, 3), 1 / 32),
        "stem": np.full((1, 1, 4, 4), 1 / 16),
        "back": np.ones((1, 1, 2, 2)),
        "head": np.array([16.0, 2.0, 0.0]).reshape(3, 1, 1, 1) * np.full((3, 1, 3, 3), 1 / 8),
        "shift": np.array([-4.5, -0.5, 0.0]),
        "low": np.array(0.0),
        "high": np.array(1.0),
    }
    nodes = [
        helper.make_node("Transpose", ["image"], ["channels_first"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["channels_first", "smooth"], ["smoothed"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["smoothed", "stem"], ["half"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("ConvTranspose", ["half", "back"], ["full"], strides=[2, 2]),
        helper.make_node("Conv", ["full", "head", "shift"], ["unclipped"], pads=[1, 1, 1, 1]),
        helper.make_node("Clip", ["unclipped", "low", "high"], ["clipped"]),
        helper.make_node("Transpose", ["clipped"], ["maps"], perm=[0, 2, 3, 1]),
    ]
    any_size = ["batch", "height", "width"]
    graph = helper.make_graph(
        nodes,
        "tiled",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [*any_size, 3])],
        [helper.make_tensor_value_info("maps", TensorProto.FLOAT, [*any_size, len(MAPS)])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    card = replace(
        tiny_card(),
        name="tiled",
        description="foreground is where the image, smoothed, is bright; distance is its brightness",
        input=InputSpec("image", None, None, 3, TILING),
        preprocessing=(Step("structure_normalisation", {"lower": 1.0, "upper": 99.8}),),
        output=OutputSpec("maps", MAPS),
        postprocessing=Step(
            "marker_watershed",
            {
                "threshold": 0.5,
                "marker_distance": 0.5,
                "marker_border": 0.5,
                "min_marker_area_px": 8,
                "min_peak_distance": 0.0,
                "min_area_px": 16,
            },
        ),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, {METADATA_KEY: card.to_json()})
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path


@pytest.fixture(scope="session")
def tiled_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ONNX file that takes any even size: smoothing, a convolution of stride 2, a transposed one, smoothing.

    Each output pixel depends on 4 pixels in each direction. All weights are powers of 2, so that nothing is rounded in
    an image of multiples of 1/256, on any processor.
    """
    return write_tiled_model(tmp_path_factory.mktemp("tiled") / "tiled.onnx")


def write_dsb_zip(
    path: Path, seeds: Iterable[int], *, with_masks: bool = True, size: tuple[int, int] = (96, 128), level: str = ""
) -> Path:
    """Write a zip in Kaggle's layout: RGBA images ``field_{seed}`` with one mask per nucleus."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for seed in seeds:
            image, labels = fluorescence_field(seed, height=size[0], width=size[1], n_nuclei=8)
            image_id = f"field_{seed:03d}"
            rgba = np.dstack([image, image, image, np.full_like(image, 255)])
            archive.writestr(f"{level}{image_id}/images/{image_id}.png", png_bytes(rgba))
            for label in range(1, labels.max() + 1) if with_masks else ():
                mask = np.where(labels == label, 255, 0).astype(np.uint8)
                archive.writestr(f"{level}{image_id}/masks/nucleus_{label:03d}.png", png_bytes(mask))
    return path


@pytest.fixture(scope="session")
def make_dsb_zip() -> Callable[..., Path]:
    """`write_dsb_zip`, because tests cannot import this file."""
    return write_dsb_zip


def write_label_zip(path: Path, seeds: Iterable[int]) -> Path:
    """Write a zip in StarDist's layout: ``images/{id}.tif`` and label images ``masks/{id}.tif``."""
    with zipfile.ZipFile(path, "w") as archive:
        for seed in seeds:
            image, labels = fluorescence_field(seed, height=96, width=128, n_nuclei=8)
            for folder, array in (("images", image), ("masks", labels.astype(np.uint16))):
                buffer = io.BytesIO()
                tifffile.imwrite(buffer, array)
                archive.writestr(f"{folder}/field_{seed:03d}.tif", buffer.getvalue())
    return path


@pytest.fixture
def make_label_zip() -> Callable[..., Path]:
    """`write_label_zip`, because tests cannot import this file."""
    return write_label_zip


@pytest.fixture
def make_tiny_model() -> Callable[..., Path]:
    """`write_tiny_model`, because tests cannot import this file."""
    return write_tiny_model


@pytest.fixture(scope="session")
def training_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small ``stage1_train.zip`` and ``stage1_test.zip``."""
    folder = tmp_path_factory.mktemp("data")
    write_dsb_zip(folder / "stage1_train.zip", range(40))
    write_dsb_zip(folder / "stage1_test.zip", range(50, 54), with_masks=False)
    return folder


def run_installed(name: str, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run an installed command as a user would."""
    # A command that ran within this process has set this variable, which would silence TensorFlow here too.
    inherited = {key: value for key, value in os.environ.items() if key != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run(
        [str(Path(sysconfig.get_path("scripts")) / name), *map(str, arguments)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        env={**inherited, "PYTHONUTF8": "1", **variables},
    )


@pytest.fixture(scope="session")
def run_script() -> Callable[..., subprocess.CompletedProcess[str]]:
    """`run_installed`, because tests cannot import this file."""
    return run_installed


@pytest.fixture
def run_main(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run a command's entry point within this process, which saves importing TensorFlow again."""

    def run(main: Callable[[], None], *arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            main()
        assert isinstance(exit_.value.code, int)
        return exit_.value.code, *capsys.readouterr()

    return run


@pytest.fixture
def run_here(run_main: Callable[..., tuple[int, str, str]]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Like `run_script`, within this process: for what no process of its own is needed to show."""

    def run(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        (command,) = entry_points(group="console_scripts", name=name)
        return subprocess.CompletedProcess((name, *arguments), *run_main(command.load(), *arguments))

    return run


@pytest.fixture(scope="session")
def finished_run(training_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a baseline training of five epochs, made once by the installed command. Do not change it.

    What the command printed is next to it, in ``stdout.txt`` and ``stderr.txt``.
    """
    run = tmp_path_factory.mktemp("training") / "run"
    done = run_installed("nuclei-train", training_data, run, "--recipe", "baseline", "--epochs", 5)
    assert done.returncode == 0, done.stderr
    (run.parent / "stdout.txt").write_text(done.stdout, encoding="utf-8")
    (run.parent / "stderr.txt").write_text(done.stderr, encoding="utf-8")
    return run


@pytest.fixture(scope="session")
def native_run(training_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a small training of the recipe `native`, within this process. Do not change it."""
    from nuclei_train.fitting.fit import TrainingConfig, train
    from nuclei_train.fitting.reporter import Reporter
    from nuclei_train.recipes.native import Native

    small = replace(
        Native(),
        epochs=2,
        steps_per_epoch=3,
        batch_size=4,
        filters=8,
        crop_px=96,
        warmup_steps=2,
        validation_batches=1,
        tile_core_px=64,
    )
    run = tmp_path_factory.mktemp("native") / "run"
    train(TrainingConfig(training_data, run, small, resume=False), Reporter())
    return run
