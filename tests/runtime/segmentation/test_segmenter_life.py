"""The life of a segmenter: warmed up, pickled, cancelled and closed, with real ONNX sessions."""

from __future__ import annotations

import asyncio
import gc
import json
import multiprocessing
import pickle
import subprocess
import sys
import threading
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from weakref import ref

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from nuclei_runtime import (
    BUNDLED_MODELS,
    ModelDigestError,
    ModelError,
    NucleiError,
    SegmentationCancelledError,
    Segmenter,
    SegmenterOptions,
    plane_of,
    segment_plane,
)
from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.model.session import Session
from nuclei_runtime.segmentation import memory
from nuclei_runtime.steps.view import SCALES

FIELD, _ = fluorescence_field(11, height=128, width=150, n_nuclei=12)


def test_options_are_one_value(tiled_model: Path) -> None:
    segmenter = Segmenter(str(tiled_model), threads=1, tta=True, diameter_px=30)
    expected = SegmenterOptions(tiled_model, threads=1, tta=True, diameter_px=30)
    assert segmenter.options == expected
    again = Segmenter.from_options(expected)
    assert again.options == expected
    assert segmenter.segment(FIELD).count > 3
    np.testing.assert_array_equal(again.segment(FIELD).labels, segmenter.segment(FIELD).labels)
    with pytest.raises(FrozenInstanceError):
        expected.tta = False  # type: ignore[misc]


def test_a_precision_selects_a_bundled_model() -> None:
    for precision, model in BUNDLED_MODELS.items():
        segmenter = Segmenter(precision=precision)
        assert segmenter.model_sha256 == Segmenter(model).model_sha256
        assert segmenter.card.provenance.get("precision", "fp32") == precision
    assert Segmenter().model_sha256 == Segmenter(precision="fp32").model_sha256


def test_an_unknown_precision_or_one_for_a_named_model_is_refused(tiled_model: Path) -> None:
    with pytest.raises(ValueError, match="precision must be one of fp32, int8, found 'fp16'"):
        Segmenter(precision="fp16")
    with pytest.raises(ValueError, match=r"precision='int8' selects a bundled model, and .*\.onnx has its own"):
        Segmenter(tiled_model, precision="int8")


def shapes_run(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Record the shape of each batch that a session runs."""
    shapes: list[tuple[int, ...]] = []
    run = Session.run

    def noting(session: Session, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        shapes.append(batch.shape)
        return run(session, batch)

    monkeypatch.setattr(Session, "run", noting)
    return shapes


def test_a_warm_up_runs_the_tiles_of_a_real_image(tiled_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segmenter, shapes = Segmenter(tiled_model, threads=1), shapes_run(monkeypatch)
    segmenter.warm_up(FIELD.shape, FIELD.dtype)
    warm = [*shapes]
    shapes.clear()
    segmenter.segment(FIELD)
    assert shapes == warm != []
    with pytest.raises(NucleiError, match="found an array of shape"):
        segmenter.warm_up((5,), np.uint8)


def test_nothing_is_left_to_import_after_a_warm_up() -> None:
    code = (
        "import json, sys, numpy as np\n"
        "from nuclei_runtime import Segmenter\n"
        "from nuclei_runtime.checks.synthetic import fluorescence_field\n"
        "image = fluorescence_field(1, height=96, width=96)[0]\n"
        "segmenter = Segmenter(threads=1)\n"
        "segmenter.warm_up(image.shape, image.dtype)\n"
        "before = {*sys.modules}\n"
        "count = segmenter.segment(image).count\n"
        "print(json.dumps([count, sorted({*sys.modules} - before)]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    count, imported = json.loads(done.stdout)
    assert count > 5
    assert imported == []


def labels_of(segmenter: Segmenter, image: NDArray[np.uint8]) -> NDArray[np.int32]:
    return segmenter.segment(image).labels


def test_it_goes_to_another_process(tiled_model: Path) -> None:
    """A spawned process inherits nothing: it receives the pickled segmenter and sends back labels."""
    segmenter = Segmenter(tiled_model, threads=1, diameter_px=30)
    expected = segmenter.segment(FIELD).labels
    assert expected.max() > 3
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.apply(labels_of, (segmenter, FIELD))
    np.testing.assert_array_equal(found, expected)


def test_a_pickled_segmenter_loads_no_other_model(
    tiled_model: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(tiled_model.read_bytes())
    monkeypatch.chdir(tmp_path)
    content = pickle.dumps(Segmenter("model.onnx", threads=1))
    monkeypatch.chdir(tmp_path.parent)  # the path is kept as an absolute path
    again = pickle.loads(content)
    assert again.options == SegmenterOptions(path, sha256=again.model_sha256, threads=1)
    path.write_bytes(tiny_model.read_bytes())
    with pytest.raises(ModelDigestError, match="its SHA-256 is"):
        pickle.loads(content)


def test_a_relative_path_is_that_of_the_folder_in_which_the_segmenter_was_made(
    tiled_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiled_model.parent)
    segmenter = Segmenter(tiled_model.name, threads=1)
    monkeypatch.chdir(tmp_path)
    assert pickle.loads(pickle.dumps(segmenter)).options.model == segmenter.options.model == tiled_model


class SetAfter:
    """A flag that is set while the network runs its n-th tile."""

    def __init__(self, n_tiles: int, shapes: list[tuple[int, ...]]) -> None:
        self.n_tiles, self.shapes = n_tiles, shapes

    def is_set(self) -> bool:
        return len(self.shapes) >= self.n_tiles


@pytest.mark.parametrize("n_tiles", [0, 1, 4])
def test_a_call_that_is_cancelled_runs_no_further_tile(
    tiled_model: Path, n_tiles: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "MAX_CORE_PX", 0)  # the tiles of the card, which are far smaller than the image
    segmenter, shapes = Segmenter(tiled_model, threads=1), shapes_run(monkeypatch)
    segmenter.segment(FIELD)
    assert len(shapes) > 5
    shapes.clear()
    with pytest.raises(SegmentationCancelledError, match="was cancelled before it was complete"):
        segmenter.segment(FIELD, cancel=SetAfter(n_tiles, shapes))
    assert len(shapes) == n_tiles
    shapes.clear()
    with pytest.raises(SegmentationCancelledError):
        list(segment_plane(plane_of(FIELD), segmenter.network, cancel=SetAfter(n_tiles, shapes)))
    assert len(shapes) == n_tiles


def test_a_choice_among_views_is_cancelled_between_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """All scales of one stain are computed from pixels that are read once."""
    clouds = gaussian_filter(np.random.default_rng(0).normal(0, 1, (96, 96)), 3)
    segmenter, shapes = Segmenter(threads=1), shapes_run(monkeypatch)
    segmenter.segment(clouds)
    n_views = len(shapes)
    assert n_views == len(SCALES)
    for n_tiles in range(n_views):
        shapes.clear()
        with pytest.raises(SegmentationCancelledError):
            segmenter.segment(clouds, cancel=SetAfter(n_tiles, shapes))
        assert len(shapes) == n_tiles


def test_a_network_of_fixed_size_is_cancelled_before_it_runs(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cancel, shapes = threading.Event(), shapes_run(monkeypatch)
    cancel.set()
    with pytest.raises(SegmentationCancelledError):
        Segmenter(tiny_model, threads=1).segment(FIELD, cancel=cancel)
    assert shapes == []


def test_a_flag_that_is_not_set_changes_nothing(tiled_model: Path) -> None:
    segmenter = Segmenter(tiled_model, threads=1)
    labels = segmenter.segment(FIELD, cancel=threading.Event()).labels
    np.testing.assert_array_equal(labels, segmenter.segment(FIELD).labels)


def test_a_timeout_of_asyncio_ends_the_work_within_a_tile(tiled_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first tile takes longer than the timeout, and no second tile is run."""
    segmenter, cancel, n_tiles = Segmenter(tiled_model, threads=1), threading.Event(), 0
    run = Session.run

    def slow(session: Session, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        nonlocal n_tiles
        n_tiles += 1
        assert cancel.wait(60), "nobody cancelled"
        return run(session, batch)

    monkeypatch.setattr(Session, "run", slow)

    async def call() -> None:
        try:
            await asyncio.wait_for(asyncio.to_thread(segmenter.segment, FIELD, cancel=cancel), 0.2)
        finally:
            cancel.set()

    with pytest.raises(TimeoutError):
        asyncio.run(call())  # waits for the thread to end
    assert n_tiles == 1


def test_a_closed_one_says_so_and_lets_go_of_the_model(tiled_model: Path) -> None:
    with Segmenter(tiled_model, threads=1) as segmenter:
        session = ref(segmenter.network.session)
        assert segmenter.segment(FIELD).count > 3
    gc.collect()
    assert session() is None
    segmenter.close()
    assert segmenter.options.model == tiled_model
    uses = (
        lambda: segmenter.segment(FIELD),
        lambda: segmenter.segment_batch([FIELD]),
        lambda: next(segmenter.predict([FIELD])),
        lambda: segmenter.find_instances(np.zeros((5, 5, 3), np.float32)),
        lambda: segmenter.warm_up((5, 5), np.uint8),
        lambda: segmenter.card,
        lambda: segmenter.network,
        lambda: pickle.dumps(segmenter),
    )
    for use in uses:
        with pytest.raises(ModelError, match="the segmenter is closed; create a new one"):
            use()


def test_a_call_in_another_thread_outlives_the_closing(tiled_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segmenter, running, closed = Segmenter(tiled_model, threads=1), threading.Event(), threading.Event()
    expected = segmenter.segment(FIELD).labels
    run = Session.run

    def waiting(session: Session, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        running.set()
        assert closed.wait(60)
        return run(session, batch)

    monkeypatch.setattr(Session, "run", waiting)
    found: list[NDArray[np.int32]] = []
    thread = threading.Thread(target=lambda: found.append(segmenter.segment(FIELD).labels))
    thread.start()
    assert running.wait(60)
    segmenter.close()
    closed.set()
    thread.join()
    np.testing.assert_array_equal(found[0], expected)


def test_options_out_of_range_name_what_was_found() -> None:
    with pytest.raises(ValueError, match="threads must be a whole number, 1 to 1024, found 0"):
        replace(SegmenterOptions(), threads=0)


@pytest.mark.skipif(sys.platform != "linux", reason="NOT RUN: elsewhere no file is opened to measure the memory")
def test_a_loop_that_leaks_files_is_told_so() -> None:
    """Not by an `OSError` about a file in /proc."""
    code = (
        "import os, resource, numpy as np\n"
        "from nuclei_runtime import RuntimeEnvironmentError, Segmenter, plane_of, segment_plane\n"
        "segmenter, image = Segmenter(threads=1), np.zeros((64, 64), np.uint8)\n"
        "uses = (\n"
        "    lambda: segmenter.segment(image),\n"
        "    lambda: list(segment_plane(plane_of(image), segmenter.network)),\n"
        "    lambda: list(segment_plane(plane_of(image), segmenter.network, max_memory=1 << 40)),\n"
        ")\n"
        "for use in uses: use()\n"
        "limits = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "next_file = os.open(os.devnull, os.O_RDONLY)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (next_file + 1, limits[1]))\n"
        "for use in uses:\n"
        "    try: use()\n"
        "    except RuntimeEnvironmentError as error: print(error)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, limits)\n"
        "for use in uses: use()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    reason = "the memory cannot be measured: Too many open files; raise the limit on open files"
    assert [line.startswith(reason) for line in done.stdout.splitlines()] == [True] * 3, done.stdout + done.stderr
    assert done.returncode == 0
