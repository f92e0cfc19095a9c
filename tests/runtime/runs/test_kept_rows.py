"""Rows follow records: the tables have a row for everything in the folder, whichever run produced it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import tifffile
from PIL import Image

from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.cli.infer import main as infer_main
from nuclei_runtime.readers.plane import Selection
from nuclei_runtime.results.joined_tables import Joined
from nuclei_runtime.results.layout import token_of
from nuclei_runtime.results.records import record_of
from nuclei_runtime.results.shard import Shard
from nuclei_runtime.runs.config import RunConfig
from nuclei_runtime.runs.run import FolderRun
from nuclei_runtime.runs.verify import verify
from nuclei_runtime.runs.watch import watch
from nuclei_runtime.segmentation.options import SegmenterOptions

NAMES = ["a.png", "b.png", "c.png", "d.png"]


def field(seed: int) -> np.ndarray:
    return fluorescence_field(seed, height=64, width=80, n_nuclei=5)[0]


@pytest.fixture
def first(tmp_path: Path, tiny_model: Path) -> RunConfig:
    """A folder of images, segmented."""
    (tmp_path / "in").mkdir()
    for seed, name in enumerate(NAMES):
        Image.fromarray(field(seed)).save(tmp_path / "in" / name)
    config = RunConfig((str(tmp_path / "in"),), tmp_path / "out", SegmenterOptions(tiny_model))
    joined = do(config)
    assert joined is not None
    assert (joined.n_made_otherwise, joined.notes) == (0, ())
    return config


@pytest.fixture
def second(tmp_path: Path, first: RunConfig) -> RunConfig:
    """A run over one more image, with another selection, into the same results folder."""
    tifffile.imwrite(tmp_path / "z.ome.tif", np.stack([field(7)] * 3), metadata={"axes": "ZYX"})
    return replace(first, sources=(str(tmp_path / "z.ome.tif"),), selection=Selection(z="max"), mode="resume")


def do(config: RunConfig, stop_after: int | None = None) -> Joined | None:
    with FolderRun(config) as run:
        for number, _ in enumerate(run.outcomes(), 1):
            if number == stop_after:
                break
    return run.joined


def rows(out: Path, table: str = "images.csv") -> dict[str, list[dict[str, str]]]:
    with (out / table).open(encoding="utf-8", newline="") as file:
        found: dict[str, list[dict[str, str]]] = {}
        for row in csv.DictReader(file):
            # The columns that other images bring are empty in their rows.
            found.setdefault(row["image"], []).append({name: value for name, value in row.items() if value})
        return found


def run_key(config: RunConfig) -> str:
    return str(json.loads((config.out / "provenance.json").read_text(encoding="utf-8"))["run_key"])


def test_another_selection_of_other_images_keeps_all_earlier_rows(first: RunConfig, second: RunConfig) -> None:
    images, nuclei = rows(first.out), rows(first.out, "nuclei.csv")
    first_key = run_key(first)
    joined = do(second)
    assert joined is not None
    assert joined.n_made_otherwise == 4
    assert list(rows(first.out)) == [*NAMES, "z.ome.tif"]
    assert {name: rows(first.out)[name] for name in NAMES} == images
    assert {name: rows(first.out, "nuclei.csv")[name] for name in NAMES} == nuclei
    (added,) = rows(first.out)["z.ome.tif"]
    assert len(rows(first.out, "nuclei.csv")["z.ome.tif"]) == int(added["n_nuclei"]) > 0
    # How the earlier rows were made is still known: records name run keys, and the provenance explains them.
    record = record_of(first.out, "a.png")
    assert record is not None
    assert record.run_key == first_key != run_key(second)
    provenance = json.loads((first.out / "provenance.json").read_text(encoding="utf-8"))
    assert provenance["method"]["selection"]["z"] == "max"
    assert {key: method["selection"]["z"] for key, method in provenance["earlier_methods"].items()} == {first_key: None}


def test_a_run_with_other_options_that_is_stopped_keeps_the_rows_that_it_did_not_reach(first: RunConfig) -> None:
    before = rows(first.out)
    other = replace(first, selection=Selection(z="each"), mode="resume")
    other = replace(other, options=replace(other.options, threads=1))
    joined = do(other, stop_after=1)
    assert joined is not None
    assert joined.n_made_otherwise == 3
    assert rows(first.out) == before  # the selection changes nothing in files of one plane
    joined = do(other)
    assert joined is not None
    assert (joined.n_made_otherwise, joined.run_keys) == (0, {run_key(other)})
    assert "earlier_methods" not in json.loads((first.out / "provenance.json").read_text(encoding="utf-8"))


def test_verify_finds_tables_with_rows_of_several_runs_as_they_were(first: RunConfig, second: RunConfig) -> None:
    do(second)
    assert {found.name: found.differences for found in verify(second) if found.differences} == {}
    text = (first.out / "images.csv").read_text(encoding="utf-8")
    (first.out / "images.csv").write_text(text.replace("c.png,ok", "c.png,failed"), encoding="utf-8")
    assert [found.name for found in verify(second) if found.differences] == ["images.csv"]


def test_shares_join_only_when_all_of_their_images_are_made_alike_and_keep_other_rows(
    first: RunConfig, second: RunConfig, tmp_path: Path
) -> None:
    do(second)
    other = replace(first, selection=Selection(z="each"), mode="resume")
    owned = [Shard(1, 2).owns(token_of(name)) for name in NAMES]
    assert True in owned
    assert False in owned
    before = (first.out / "images.csv").read_bytes()
    assert do(replace(other, shard=Shard(1, 2))) is None  # the other share's images have records of the earlier run
    assert (first.out / "images.csv").read_bytes() == before
    joined = do(replace(other, shard=Shard(2, 2)))
    assert joined is not None
    assert joined.n_made_otherwise == 1  # z.ome.tif
    assert list(rows(tmp_path / "out")) == [*NAMES, "z.ome.tif"]


@pytest.mark.parametrize("trouble", ["out of reach", "changed"])
def test_shares_join_though_one_of_their_images_keeps_its_earlier_results(first: RunConfig, trouble: str) -> None:
    if trouble == "changed":
        tifffile.imwrite(first.out / "labels/a.tif", np.ones((64, 80), np.uint16))
    else:
        (Path(first.sources[0]) / "a.png").unlink()
        (Path(first.sources[0]) / "a.png").symlink_to("not mounted.png")
    other = replace(first, selection=Selection(z="each"), mode="resume")
    assert do(replace(other, shard=Shard(1, 2))) is None
    joined = do(replace(other, shard=Shard(2, 2)))
    assert joined is not None
    assert joined.n_made_otherwise == 1  # a.png
    assert [rows(first.out)[name][0]["status"] for name in NAMES] == ["ok"] * 4
    # In a third run, each share waits for the other again.
    third = replace(first, selection=Selection(z="max"), mode="resume")
    assert do(replace(third, shard=Shard(1, 2))) is None
    assert do(replace(third, shard=Shard(2, 2))) is not None


def test_a_watch_keeps_the_rows_of_other_runs_and_says_so(first: RunConfig, second: RunConfig, tmp_path: Path) -> None:
    pytest.importorskip("watchfiles")
    do(second)
    (tmp_path / "watched").mkdir()
    Image.fromarray(field(9)).save(tmp_path / "watched/new.png")
    stop, notes = Event(), []
    for found in watch(replace(first, sources=(str(tmp_path / "watched"),)), stop, settle_s=0.1):
        if isinstance(found, str):
            notes.append(found)
        else:
            stop.set()
    assert list(rows(first.out)) == [*NAMES, "new.png", "z.ome.tif"]
    changes, note = notes
    assert changes.startswith("note: this run differs from the earlier one")
    assert note.startswith("note: 1 image in")


def test_an_image_whose_table_is_missing_is_named_and_left_out(first: RunConfig, second: RunConfig) -> None:
    (first.out / "tables/c.csv").unlink()
    joined = do(second)
    assert joined is not None
    assert joined.left_out == ("c.png",)
    assert list(rows(first.out)) == ["a.png", "b.png", "d.png", "z.ome.tif"]
    assert any("c.png" in note and "segment it again" in note for note in joined.notes)


def test_the_command_says_how_many_rows_were_made_otherwise(
    first: RunConfig, second: RunConfig, run_main: Callable[..., tuple[int, str, str]]
) -> None:
    options = ("--out", first.out, "--model", first.options.model, "--resume")
    code, _, stderr = run_main(infer_main, *second.sources, *options, "--z", "max")
    assert code == 0
    changes, note = stderr.splitlines()
    assert changes.endswith("differs from the earlier one in the results folder: selection.z was none and is max")
    assert note == (
        "note: 4 images in images.csv and nuclei.csv were segmented with another model, other options or another "
        "version; provenance.json describes them under earlier_methods"
    )
    assert list(rows(first.out)) == [*NAMES, "z.ome.tif"]
    assert run_main(infer_main, *second.sources, *options, "--z", "max")[::2] == (0, f"{note}\n")
