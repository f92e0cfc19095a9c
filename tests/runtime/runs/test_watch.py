"""A watched folder with a backlog: files that change or vanish meanwhile. For the rest, see test_faults.py."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread

import pytest
from PIL import Image

from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.runs.config import RunConfig
from nuclei_runtime.runs.image_file import FileOutcome, process_file
from nuclei_runtime.runs.watch import watch
from nuclei_runtime.segmentation.options import SegmenterOptions

pytest.importorskip("watchfiles")


def save(path: Path) -> None:
    Image.fromarray(fluorescence_field(1, height=64, width=80, n_nuclei=5)[0]).save(path)


def test_what_changes_or_goes_while_others_are_done_is_not_tried(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.png", "gone.png", "grows.png"):
        save(folder / name)
    whole = (folder / "grows.png").read_bytes()
    (folder / "grows.png").write_bytes(whole[:100])
    tried: list[str] = []

    def processing(file: object, *arguments: object, **options: object) -> FileOutcome:
        tried.append(file.name)  # type: ignore[attr-defined]
        if len(tried) == 1:
            (folder / "gone.png").unlink()
            (folder / "grows.png").write_bytes(whole)
        return _process(file, *arguments, **options)

    _process: Callable[..., FileOutcome] = process_file
    monkeypatch.setattr("nuclei_runtime.runs.watch.process_file", processing)
    stop, outcomes, notes = Event(), [], []
    for found in watch(RunConfig((str(folder),), tmp_path / "out", SegmenterOptions(tiny_model)), stop, settle_s=0.3):
        if isinstance(found, str):
            notes.append(found)
        else:
            outcomes += [(plane.image, plane.status) for plane in found.planes]
        if len(outcomes) == 2:
            stop.set()
    assert tried == ["a.png", "grows.png"]
    assert outcomes == [("a.png", "ok"), ("grows.png", "ok")]
    assert notes == ["gone.png: was removed before it could be read"]
    assert "failed" not in (tmp_path / "out/images.csv").read_text(encoding="utf-8")


def test_tables_that_a_killed_watch_has_not_joined_are_joined(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if no new image appears."""
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    save(folder / "a.png")
    config = RunConfig((str(folder),), out, SegmenterOptions(tiny_model))
    stop = Event()
    for _ in watch(config, stop, settle_s=0.1):
        stop.set()
    (out / "images.csv").unlink()
    (out / "nuclei.csv").unlink()

    monkeypatch.setattr("nuclei_runtime.runs.watch.JOIN_AFTER_S", 0.2)
    stop, seen = Event(), []
    watcher = Thread(target=lambda: seen.extend(watch(config, stop, settle_s=0.1)))
    watcher.start()
    try:
        deadline = time.monotonic() + 30
        while not (out / "images.csv").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert (out / "nuclei.csv").exists()
    finally:
        stop.set()
        watcher.join()
    assert seen == []
