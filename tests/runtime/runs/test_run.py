"""Runs that are resumed, shared or interrupted end with the same folder as an undisturbed run."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Barrier, Event
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.errors import ResultsExistError, RuntimeEnvironmentError
from nuclei_runtime.readers.plane import Selection
from nuclei_runtime.results.folder import Mode
from nuclei_runtime.results.layout import token_of
from nuclei_runtime.results.shard import Shard
from nuclei_runtime.runs import image_file as image_file_module
from nuclei_runtime.runs import threads as threads_module
from nuclei_runtime.runs.config import RunConfig
from nuclei_runtime.runs.image_file import FileOutcome, process_file
from nuclei_runtime.runs.inputs import ImageFile
from nuclei_runtime.runs.run import FolderRun
from nuclei_runtime.runs.verify import verify
from nuclei_runtime.segmentation.options import SegmenterOptions
from nuclei_runtime.writers.outputs import OutputOptions
from tests.contents import everything

NAMES = ["a.png", "b.png", "plate 1/a.png", "plate 1/a.tif", "plate 1/c.png", "z.png"]


def save(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(fluorescence_field(seed, height=64, width=80, n_nuclei=5)[0]).save(path)


@pytest.fixture
def config(tmp_path: Path, tiny_model: Path) -> RunConfig:
    for seed, name in enumerate(NAMES):
        save(tmp_path / "in" / name, seed)
    (tmp_path / "in/broken.png").write_bytes(b"")
    return RunConfig((str(tmp_path / "in"),), tmp_path / "undisturbed", SegmenterOptions(tiny_model))


def optioned(config: RunConfig, **options: Any) -> RunConfig:
    return replace(config, options=replace(config.options, **options))


def do(config: RunConfig, stop_after: int | None = None) -> dict[str, FileOutcome]:
    """Run, and stop after a number of files if asked to."""
    outcomes: dict[str, FileOutcome] = {}
    with FolderRun(config) as run:
        for outcome in run.outcomes():
            outcomes[outcome.planes[0].image] = outcome
            if len(outcomes) == stop_after:
                break
    return outcomes


def test_a_run_that_was_stopped_and_resumed_leaves_what_an_undisturbed_one_leaves(config: RunConfig) -> None:
    do(config)
    resumed = replace(config, out=config.out.with_name("resumed"), mode="resume")
    in_turn = optioned(resumed, threads=1)  # no worker runs ahead
    assert list(do(in_turn, stop_after=3)) == ["a.png", "b.png", "broken.png"]
    assert (resumed.out / "images.csv").read_bytes().count(b"\n") == 4
    outcomes = do(resumed)
    assert [name for name, outcome in outcomes.items() if outcome.is_kept] == ["a.png", "b.png"]
    assert {name: outcome.redone for name, outcome in outcomes.items() if outcome.redone} == {
        "broken.png": "it failed before"
    }
    assert everything(resumed.out) == everything(config.out)


def test_resuming_touches_nothing_that_is_complete(config: RunConfig) -> None:
    do(config)
    times = {path: path.stat().st_mtime_ns for path in config.out.glob("labels/**/*.tif")}
    before = everything(config.out)
    outcomes = do(replace(config, mode="resume"))
    assert [name for name, outcome in outcomes.items() if not outcome.is_kept] == ["broken.png"]
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert everything(config.out) == before


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:50])


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "labels cut": (lambda out: cut(out / "labels/a.tif"), "labels/a.tif is missing or damaged"),
    "overlay gone": (lambda out: (out / "overlays/a.png").unlink(), "overlays/a.png is missing or damaged"),
    "table cut": (lambda out: cut(out / "tables/a.csv"), "tables/a.csv is missing or damaged"),
    "record cut": (lambda out: cut(out / "records" / f"{token_of('a.png')}.json"), "its record is damaged"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_skipped_is_verified(config: RunConfig, damage: str) -> None:
    do(config)
    before = everything(config.out)
    harm, reason = DAMAGES[damage]
    harm(config.out)
    assert everything(config.out) != before
    outcomes = do(replace(config, mode="resume"))
    assert outcomes["a.png"].redone == reason
    assert [name for name, outcome in outcomes.items() if not outcome.is_kept] == ["a.png", "broken.png"]
    assert everything(config.out) == before


def correct(path: Path) -> bytes:
    """Delete the first nucleus of a label image, as a person would, and return the new file."""
    labels = tifffile.imread(path)
    labels[labels == 1] = 0
    tifffile.imwrite(path, labels)
    return path.read_bytes()


@pytest.mark.parametrize("reason", ["none", "other options", "another image"])
def test_labels_that_a_person_corrected_are_never_replaced(config: RunConfig, tmp_path: Path, reason: str) -> None:
    do(config)
    before = everything(config.out)
    corrected = correct(config.out / "labels/a.tif")
    resumed = replace(config, mode="resume")
    if reason == "other options":
        resumed = replace(resumed, selection=replace(config.selection, pixel_size_um=0.5))
    elif reason == "another image":
        save(tmp_path / "in/a.png", 99)
    for _ in range(2):
        outcome = do(resumed)["a.png"]
        assert (outcome.is_kept, outcome.redone, outcome.changed) == (True, None, ("labels/a.tif",))
        assert (config.out / "labels/a.tif").read_bytes() == corrected
        for name in ("overlays/a.png", "tables/a.csv"):
            assert (config.out / name).read_bytes() == before[name]
        row, *others = csv.DictReader((config.out / "images.csv").open(encoding="utf-8", newline=""))
        assert (row["image"], row["status"], row["changed_results"]) == ("a.png", "ok", "labels/a.tif")
        assert {other["changed_results"] for other in others} == {""}
    differences = {verified.name: verified.differences for verified in verify(resumed)}["a.png"]
    assert differences[0] == "labels/a.tif has changed since it was written"


def as_composite(path: Path) -> None:
    labels = tifffile.imread(path)
    tifffile.imwrite(path, np.stack([labels, labels]), imagej=True, metadata={"axes": "CYX", "mode": "composite"})


def with_nan(path: Path) -> None:
    labels = tifffile.imread(path)
    tifffile.imwrite(path, np.where(labels == 0, np.nan, labels).astype(np.float32))


def with_two_pages(path: Path) -> None:
    labels = tifffile.imread(path)
    with tifffile.TiffWriter(path) as writer:
        writer.write(labels, metadata=None)
        writer.write(labels, metadata=None)


@pytest.mark.parametrize("save", [as_composite, with_nan, with_two_pages])
def test_a_correction_that_is_no_label_image_is_kept_too(config: RunConfig, save: Callable[[Path], None]) -> None:
    """A person has to save it differently to have it measured, but it is not for --resume to discard it."""
    do(config)
    save(config.out / "labels/a.tif")
    saved = (config.out / "labels/a.tif").read_bytes()
    outcome = do(replace(config, mode="resume"))["a.png"]
    assert (outcome.is_kept, outcome.redone, outcome.changed) == (True, None, ("labels/a.tif",))
    assert (config.out / "labels/a.tif").read_bytes() == saved


def test_a_corrected_label_image_is_replaced_on_request_alone(config: RunConfig) -> None:
    do(config)
    before = everything(config.out)
    correct(config.out / "labels/a.tif")
    do(replace(config, mode="resume"))
    (config.out / "labels/a.tif").unlink()
    assert do(replace(config, mode="resume"))["a.png"].redone == "labels/a.tif is missing or damaged"
    assert everything(config.out) == before
    correct(config.out / "labels/a.tif")
    do(replace(config, mode="overwrite"))
    assert everything(config.out) == before


def test_a_correction_that_is_taken_back_leaves_no_trace(config: RunConfig) -> None:
    do(config)
    before = everything(config.out)
    correct(config.out / "labels/a.tif")
    assert do(replace(config, mode="resume"))["a.png"].changed
    (config.out / "labels/a.tif").write_bytes(before["labels/a.tif"])
    outcome = do(replace(config, mode="resume"))["a.png"]
    assert (outcome.is_kept, outcome.changed) == (True, ())
    assert everything(config.out) == before


def test_an_image_that_changed_is_done_again(config: RunConfig, tmp_path: Path) -> None:
    do(config)
    save(tmp_path / "in/a.png", 99)
    assert do(replace(config, mode="resume"))["a.png"].redone == "the image has changed"
    fresh = replace(config, out=tmp_path / "fresh")
    do(fresh)
    assert everything(config.out) == everything(fresh.out)


@pytest.fixture
def on_drive(config: RunConfig, tmp_path: Path) -> RunConfig:
    """Two images that links name, segmented: what they lead to may go away, as a drive that is not mounted."""
    (tmp_path / "links").mkdir()
    for name in ("a.png", "b.png"):
        try:
            (tmp_path / "links" / name).symlink_to(tmp_path / "in" / name)
        except OSError as error:
            pytest.skip(f"NOT RUN: this system makes no links: {error}")
    on_drive = replace(config, sources=(str(tmp_path / "links"),))
    do(on_drive)
    return replace(on_drive, mode="resume")


@pytest.mark.parametrize("options", ["the same", "others"])
def test_an_image_that_is_out_of_reach_fails_and_keeps_its_results(
    on_drive: RunConfig, tmp_path: Path, options: str
) -> None:
    before = everything(on_drive.out)
    (tmp_path / "in").rename(tmp_path / "not mounted")
    resumed = on_drive if options == "the same" else replace(on_drive, selection=Selection(pixel_size_um=0.5))
    for outcome in do(resumed).values():
        (plane,) = outcome.planes
        assert (plane.status, outcome.is_kept, outcome.redone) == ("failed", False, None)
        assert plane.reason == "cannot be read: No such file or directory; its earlier results are kept"
    after = everything(on_drive.out)
    changed = {name for name in before | after if before.get(name) != after.get(name)}
    assert {name for name in changed if not name.startswith("records/")} <= {"provenance.json"}
    assert {one.name: one.differences for one in verify(on_drive) if one.name == "a.png"} == {
        "a.png": ("cannot be read: No such file or directory",)
    }
    (tmp_path / "not mounted").rename(tmp_path / "in")
    assert all(outcome.is_kept for outcome in do(on_drive).values())
    assert everything(on_drive.out) == before


def test_an_image_that_goes_out_of_reach_while_it_is_read_keeps_its_results(
    on_drive: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = everything(on_drive.out)
    digested = image_file_module.differing_results

    def then_unmount(*arguments: Any) -> Any:
        if (tmp_path / "in").exists():
            (tmp_path / "in").rename(tmp_path / "not mounted")
        return digested(*arguments)

    monkeypatch.setattr(image_file_module, "differing_results", then_unmount)
    resumed = optioned(replace(on_drive, selection=Selection(pixel_size_um=0.5)), threads=1)
    for outcome in do(resumed).values():
        assert (outcome.planes[0].reason or "").endswith("; its earlier results are kept")
    assert everything(on_drive.out)["labels/a.tif"] == before["labels/a.tif"]


def test_an_image_that_fails_with_other_options_keeps_its_results(config: RunConfig) -> None:
    """A slip in an option must not cost the results of a whole folder."""
    do(config)
    before = everything(config.out)
    outcomes = do(replace(config, selection=Selection(channel="DAPI2"), mode="resume"))
    assert not any(outcome.is_ok for outcome in outcomes.values())
    reason = outcomes["a.png"].planes[0].reason or ""
    assert reason.startswith("the file has no channel DAPI2")
    assert reason.endswith("; its earlier results are kept")
    after = everything(config.out)
    changed = {name for name in before | after if before.get(name) != after.get(name)}
    assert not {name for name in changed if name.startswith(("labels", "overlays", "tables", "nuclei.csv"))}
    assert {name: outcome.is_kept for name, outcome in do(replace(config, mode="resume")).items()} == {
        name: name != "broken.png" for name in outcomes
    }
    assert everything(config.out) == before


def test_a_file_of_the_users_in_the_way_of_a_new_result_does_not_cost_the_others(config: RunConfig) -> None:
    labels_only = replace(config, outputs=OutputOptions(("labels",)))
    do(labels_only)
    before = (config.out / "labels/a.tif").read_bytes()
    (config.out / "overlays").mkdir()
    (config.out / "overlays/a.png").write_bytes(b"mine")
    outcome = do(replace(config, mode="resume"))["a.png"]
    assert "overlays/a.png: is in the way" in (outcome.planes[0].reason or "")
    assert (config.out / "overlays/a.png").read_bytes() == b"mine"
    assert (config.out / "labels/a.tif").read_bytes() == before


def test_an_image_that_was_replaced_by_a_broken_one_loses_its_results(config: RunConfig, tmp_path: Path) -> None:
    do(config)
    (tmp_path / "in/a.png").write_bytes(b"")
    outcome = do(replace(config, mode="resume"))["a.png"]
    assert (outcome.is_ok, outcome.redone) == (False, "the image has changed")
    assert not (config.out / "labels/a.tif").exists()


@pytest.mark.parametrize("mode", ["resume", "overwrite"])
def test_results_whose_record_is_damaged_stand_in_nobodys_way(config: RunConfig, mode: Mode) -> None:
    do(config)
    before = everything(config.out)
    (config.out / "records" / f"{token_of('a.png')}.json").write_bytes(b"")
    assert do(replace(config, mode=mode))["a.png"].is_ok
    assert everything(config.out) == before


def test_an_image_with_a_damaged_record_that_is_out_of_reach_can_be_done_later(
    on_drive: RunConfig, tmp_path: Path
) -> None:
    before = everything(on_drive.out)
    (on_drive.out / "records" / f"{token_of('a.png')}.json").write_bytes(b"")
    (tmp_path / "in").rename(tmp_path / "not mounted")
    assert not do(on_drive)["a.png"].is_ok
    (tmp_path / "not mounted").rename(tmp_path / "in")
    assert do(on_drive)["a.png"].redone == "its record is damaged"
    assert everything(on_drive.out) == before


def test_images_that_are_not_named_again_keep_their_rows(config: RunConfig, tmp_path: Path) -> None:
    do(config)
    before = everything(config.out)
    one = replace(config, sources=(str(tmp_path / "in/b.png"),), mode="resume")
    assert do(one)["b.png"].is_kept
    assert everything(config.out) == before
    (tmp_path / "in/a.png").rename(tmp_path / "taken away.png")
    do(replace(config, mode="resume"))
    assert everything(config.out) == before
    assert {one.name: one.differences for one in verify(config) if one.differences} == {}


def test_an_image_that_was_mended_is_done(config: RunConfig, tmp_path: Path) -> None:
    do(config)
    save(tmp_path / "in/broken.png", 7)
    assert do(replace(config, mode="resume"))["broken.png"].is_ok
    fresh = replace(config, out=tmp_path / "fresh")
    do(fresh)
    assert everything(config.out) == everything(fresh.out)


def test_another_model_and_other_parameters_do_all_again(config: RunConfig, tmp_path: Path, tiled_model: Path) -> None:
    do(config)
    for changed in (
        replace(config, selection=Selection(z="max")),
        replace(config, options=SegmenterOptions(tiled_model)),
    ):
        outcomes = do(replace(changed, mode="resume"))
        assert all("another model, other options" in str(outcome.redone) for outcome in outcomes.values())
    fresh = optioned(replace(config, out=tmp_path / "fresh"), model=tiled_model)
    do(fresh)
    assert everything(config.out) == everything(fresh.out)


def test_a_name_that_a_second_image_takes_moves_the_firsts_results(config: RunConfig, tmp_path: Path) -> None:
    do(config)
    save(tmp_path / "in/z.tif", 8)
    outcomes = do(replace(config, mode="resume"))
    assert "need another name" in str(outcomes["z.png"].redone)
    assert not (config.out / "labels/z.tif").exists()
    fresh = replace(config, out=tmp_path / "fresh")
    do(fresh)
    assert everything(config.out) == everything(fresh.out)


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_shares_make_what_one_run_makes_and_the_last_joins_the_tables(
    config: RunConfig, tmp_path: Path, order: tuple[int, ...]
) -> None:
    do(config)
    shared = replace(config, out=tmp_path / "shared")
    done: list[str] = []
    for count, index in enumerate(order, 1):
        done += do(optioned(replace(shared, shard=Shard(index, 2)), threads=index))
        assert (shared.out / "images.csv").exists() == (count == 2)
    assert sorted(done) == sorted([*NAMES, "broken.png"])
    plain = everything(config.out)
    different = {name for name, content in everything(shared.out).items() if content != plain.get(name)}
    assert different <= {"provenance.json"}  # its section on the machine names the threads
    assert everything(shared.out).keys() == plain.keys()


def test_a_share_that_was_lost_is_made_up_by_a_last_run_without_shares(config: RunConfig, tmp_path: Path) -> None:
    do(config)
    shared = replace(config, out=tmp_path / "shared")
    do(replace(shared, shard=Shard(1, 2)))
    assert not (shared.out / "images.csv").exists()
    do(replace(shared, mode="resume"))
    assert everything(shared.out) == everything(config.out)


def test_a_share_refuses_only_its_own_earlier_results(config: RunConfig) -> None:
    do(replace(config, shard=Shard(1, 2)))
    do(replace(config, shard=Shard(2, 2)))
    with pytest.raises(ResultsExistError, match="--resume"):
        FolderRun(replace(config, shard=Shard(2, 2)))


def test_threads_do_not_change_a_bit(config: RunConfig, tmp_path: Path, tiled_model: Path) -> None:
    runs = [optioned(replace(config, out=tmp_path / str(n)), model=tiled_model, threads=n) for n in (1, 2, 5)]
    for run in runs:
        do(run)
        (run.out / "provenance.json").unlink()  # names the threads
    assert everything(runs[0].out) == everything(runs[1].out) == everything(runs[2].out)
    assert np.asarray(Image.open(runs[0].out / "overlays/a.png")).any()


def test_files_are_segmented_in_parallel_and_reported_in_order(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = Barrier(2, timeout=20)  # fails if the first ends before the second begins
    second_ended = Event()
    ended: list[str] = []

    def slow(file: ImageFile, *arguments: Any) -> FileOutcome:
        if file.name in ("a.png", "b.png"):
            together.wait()
        if file.name == "a.png":
            assert second_ended.wait(20)
        outcome = process_file(file, *arguments)
        ended.append(file.name)
        if file.name == "b.png":
            second_ended.set()
        return outcome

    monkeypatch.setattr(threads_module, "process_file", slow)
    assert list(do(optioned(config, threads=2))) == sorted([*NAMES, "broken.png"])
    assert ended.index("b.png") < ended.index("a.png")


def test_who_stops_listening_stops_what_is_in_hand(config: RunConfig) -> None:
    config = optioned(config, threads=2)
    do(config, stop_after=1)
    assert not list(config.out.rglob("*.part"))
    resumed = replace(config, mode="resume")
    do(resumed)
    fresh = replace(config, out=config.out.with_name("fresh"))
    do(fresh)
    assert everything(config.out) == everything(fresh.out)


def test_a_folder_of_images_that_vanishes_stops_the_run(config: RunConfig, tmp_path: Path) -> None:
    config = optioned(config, threads=1)
    with pytest.raises(RuntimeEnvironmentError, match="vanished"), FolderRun(config) as run:  # noqa: PT012
        outcomes = run.outcomes()
        assert next(outcomes).is_ok
        (tmp_path / "in").rename(tmp_path / "unmounted")
        next(outcomes)
    rows = (config.out / "images.csv").read_text(encoding="utf-8").splitlines()
    assert [row.split(",")[:2] for row in rows[1:]] == [["a.png", "ok"], ["b.png", "failed"]]
    (tmp_path / "unmounted").rename(tmp_path / "in")
    do(replace(config, mode="resume"))
    fresh = replace(config, out=tmp_path / "fresh")
    do(fresh)
    assert everything(config.out) == everything(fresh.out)


def test_a_results_folder_that_vanishes_stops_the_run(config: RunConfig, tmp_path: Path) -> None:
    in_turn = optioned(config, threads=1)
    with pytest.raises(RuntimeEnvironmentError, match="cannot be written"), FolderRun(in_turn) as run:  # noqa: PT012
        outcomes = run.outcomes()
        assert next(outcomes).is_ok
        shutil.move(config.out, tmp_path / "unmounted")
        next(outcomes)
    assert not config.out.exists()


def test_the_results_know_where_the_images_are(config: RunConfig, tmp_path: Path) -> None:
    """Seen from the results folder, so that both can be moved together."""
    do(config, stop_after=1)
    machine = json.loads((config.out / "provenance.json").read_text(encoding="utf-8"))["machine"]
    assert machine["images_folder"] == "../in"
    do(replace(config, sources=(str(tmp_path / "in" / "a.png"),), out=tmp_path / "in"), stop_after=1)
    machine = json.loads((tmp_path / "in" / "provenance.json").read_text(encoding="utf-8"))["machine"]
    assert machine["images_folder"] == "."
