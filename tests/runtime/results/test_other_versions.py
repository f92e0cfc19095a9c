"""Results of another version of nuclei-edge: completed, or refused with advice, but never treated as damaged."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.cli.infer import main as infer_main
from nuclei_runtime.results.layout import token_of
from nuclei_runtime.results.outcome import IMAGES_COLUMNS
from nuclei_runtime.steps.columns import OLD_NAMES
from tests.contents import contents, read_table

RunMain = Callable[..., tuple[int, str, str]]
Row = dict[str, str]

NAMES = ("a.png", "b.png")


@pytest.fixture
def out(tmp_path: Path, tiny_model: Path, run_main: RunMain) -> Path:
    (tmp_path / "in").mkdir()
    for seed, name in enumerate(NAMES):
        Image.fromarray(fluorescence_field(seed, height=64, width=80, n_nuclei=5)[0]).save(tmp_path / "in" / name)
    assert run_main(infer_main, tmp_path / "in", "--out", tmp_path / "out", "--model", tiny_model)[0] == 0
    return tmp_path / "out"


def rewrite_table(path: Path, change: Callable[[Row], Row]) -> None:
    rows = [change(row) for row in read_table(path)]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def record_path(out: Path, name: str) -> Path:
    return out / "records" / f"{token_of(name)}.json"


def as_another_version_left_it(
    out: Path,
    change_row: Callable[[Row], Row],
    change_plane: Callable[[dict[str, Any]], dict[str, Any]],
    **more: object,
) -> None:
    """Rewrite tables, records and provenance as another version would have written them."""
    for path in (out / "nuclei.csv", out / "images.csv", *out.glob("tables/*.csv")):
        rewrite_table(path, change_row)
    for name in NAMES:
        path = record_path(out, name)
        record = json.loads(path.read_text(encoding="utf-8"))
        record["planes"] = [change_plane(plane) for plane in record["planes"]]
        record["run_key"] = "0" * 64
        for result in (*record["results"], *more):
            if result in more:
                (out / result).parent.mkdir(exist_ok=True)
                (out / result).write_text(str(more[result]))
            record["results"][result] = hashlib.sha256((out / result).read_bytes()).hexdigest()
        path.write_text(json.dumps(record), encoding="utf-8")
    provenance = json.loads((out / "provenance.json").read_text(encoding="utf-8"))
    provenance["method"]["nuclei_edge"] = "another"
    provenance["run_key"] = "0" * 64
    (out / "provenance.json").write_text(json.dumps(provenance), encoding="utf-8")


def without(*names: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda row: {name: value for name, value in row.items() if name not in names}


def with_first(**more: object) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda row: {"image": row["image"], **more, **row}


def with_old_names(row: Row) -> Row:
    before = {new: old for old, new in OLD_NAMES.items()}
    new = {"overlay_scale", "touches_border", "circularity", "solidity", "intensity_sum", "intensity_sd"}
    return {before.get(name, name): value for name, value in row.items() if name not in new}


OLDER = (with_old_names, without("overlay_scale"))
NEWER = (with_first(roundness="0.5"), with_first(roundness=0.5))


@pytest.mark.parametrize("version", [OLDER, NEWER], ids=["older", "newer"])
def test_a_folder_of_another_version_is_completed(
    out: Path, tmp_path: Path, tiny_model: Path, run_main: RunMain, version: tuple[Any, Any]
) -> None:
    images, nuclei = read_table(out / "images.csv"), read_table(out / "nuclei.csv")
    fresh = contents(out)
    more = {"middles/a.txt": "1 2"} if version is NEWER else {}
    as_another_version_left_it(out, *version, **more)
    options = ("--out", out, "--model", tiny_model, "--resume")

    code, _, stderr = run_main(infer_main, tmp_path / "in/a.png", *options)
    assert code == 0
    changes, done_again, note = stderr.splitlines()
    assert changes.startswith("note: this run differs from the earlier one in the results folder: nuclei_edge was ")
    assert done_again.startswith("segmented again: a.png: its results were made with another model")
    assert note.startswith("note: 1 image in images.csv and nuclei.csv was segmented with another model")

    # b.png was not named again: its rows stay, without the cells that the older version did not write.
    missing = {"overlay_scale", "touches_border", "circularity", "solidity", "intensity_sum", "intensity_sd"}
    missing = missing if version is OLDER else set()

    def expected(rows: list[Row]) -> list[Row]:
        return [
            {k: "" if k in missing and row["image"] == "b.png" else value for k, value in row.items()} for row in rows
        ]

    assert read_table(out / "images.csv") == expected(images)
    assert read_table(out / "nuclei.csv") == expected(nuclei)
    assert tuple(read_table(out / "images.csv")[0]) == IMAGES_COLUMNS
    provenance = json.loads((out / "provenance.json").read_text(encoding="utf-8"))
    assert provenance["earlier_methods"]["0" * 64]["nuclei_edge"] == "another"

    # Once all are named again, the folder equals one made by this version.
    code, _, stderr = run_main(infer_main, tmp_path / "in", *options)
    assert (code, stderr.count("\n")) == (0, 1)
    assert {name: content for name, content in contents(out).items() if name not in more} == fresh


@pytest.mark.parametrize("mode", ["--resume", "--overwrite", "--verify"])
def test_records_of_another_format_are_refused_with_what_to_do(
    out: Path, tmp_path: Path, tiny_model: Path, run_main: RunMain, mode: str
) -> None:
    path = record_path(out, "b.png")
    path.write_text(path.read_text(encoding="utf-8").replace('"format": 1', '"format": 2'), encoding="utf-8")
    before = contents(out)
    code, _, stderr = run_main(infer_main, tmp_path / "in", "--out", out, "--model", tiny_model, mode)
    assert code == 2
    assert f"{path}: is a record of format 2" in stderr
    assert "use the version that wrote these results, or choose another folder" in stderr
    assert contents(out) == before


def test_a_table_of_the_users_own_is_refused_though_it_has_columns_of_these_names(
    tmp_path: Path, tiny_model: Path, run_main: RunMain
) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/images.csv").write_text("image,status,mine\n")
    code, _, stderr = run_main(infer_main, tmp_path / "a.png", "--out", tmp_path / "out", "--model", tiny_model)
    assert code == 2
    assert "images.csv: is in the way of the results: nuclei-infer did not write it" in stderr
    assert list(contents(tmp_path / "out")) == ["images.csv"]
