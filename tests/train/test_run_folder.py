"""Which folders a run may use, and how its files are written."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from nuclei_train.errors import RunFolderError
from nuclei_train.recipes.baseline import Baseline
from nuclei_train.run_folder import discard_run, prepare, read_run, versions, write_history, write_run

IDENTITY = {"recipe": {"name": "baseline", "limitations": ("a", "b")}, "backend": "tensorflow"}


def test_a_new_folder_is_made_with_those_above_it(tmp_path: Path) -> None:
    prepare(tmp_path / "a" / "b", IDENTITY, {}, resume=False)
    assert (tmp_path / "a" / "b").is_dir()
    prepare(tmp_path / "a" / "b", IDENTITY, {}, resume=False)  # an empty folder is accepted


def test_the_same_run_can_be_resumed_but_not_begun_again(tmp_path: Path) -> None:
    write_run(tmp_path, {"status": "running", **IDENTITY})
    prepare(tmp_path, IDENTITY, {}, resume=True)
    with pytest.raises(RunFolderError, match="already contains a run; add --resume"):
        prepare(tmp_path, IDENTITY, {}, resume=False)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        (
            {"backend": "jax"},
            r'differs from this command in backend \("tensorflow" in the run, "jax" in the command\);',
        ),
        (
            {"recipe": {"name": "other", "limitations": ("a", "b")}, "backend": "jax"},
            r'in recipe\.name \("baseline" in the run, "other" in the command\), backend \(',
        ),
        ({"split": {"train": 9}}, r"in split\.train \(nothing in the run, 9 in the command\);"),
        ({"split": {"digest": "0123456789" * 6}}, r'"01234567890123456789012\.\.\. in the command\)'),
    ],
)
def test_a_run_of_something_else_is_refused(tmp_path: Path, changed: dict[str, object], named: str) -> None:
    write_run(tmp_path, {"status": "complete", **IDENTITY})
    with pytest.raises(RunFolderError, match=named):
        prepare(tmp_path, {**IDENTITY, **changed}, {}, resume=True)


def test_the_same_split_is_the_same_whatever_drew_it(tmp_path: Path) -> None:
    """A random split, after its table was copied next to the data."""
    write_run(tmp_path, {"status": "running", **IDENTITY, "split": {"source": "random", "digest": "ab"}})
    prepare(tmp_path, {**IDENTITY, "split": {"source": "splits.csv", "digest": "ab"}}, {}, resume=True)


def test_a_discarded_run_leaves_a_new_folder(tmp_path: Path) -> None:
    write_run(tmp_path, {"status": "running", **IDENTITY})
    discard_run(tmp_path)
    prepare(tmp_path, {**IDENTITY, "backend": "jax"}, {}, resume=False)


def test_a_choice_that_an_earlier_version_did_not_have_counts_as_its_default(tmp_path: Path) -> None:
    write_run(tmp_path, {"status": "running", **IDENTITY})
    recipe = {**IDENTITY["recipe"], "inner": {"new": [1, 2]}, "newer": True}  # type: ignore[dict-item]
    defaults = {"recipe": {"name": "?", "inner": {"new": (1, 2)}, "newer": True}}
    prepare(tmp_path, {**IDENTITY, "recipe": recipe}, defaults, resume=True)
    for other in ({"newer": False}, {"inner": {"new": [1, 3]}}):
        with pytest.raises(
            RunFolderError, match=r"differs from this command in recipe\.\S+ \(.* in the run, .* in the "
        ):
            prepare(tmp_path, {**IDENTITY, "recipe": {**recipe, **other}}, defaults, resume=True)


def test_where_a_run_began_is_a_part_of_what_it_is(tmp_path: Path) -> None:
    begun = {**IDENTITY, "start": {"checkpoint_sha256": "a"}}
    for written, asked in ((begun, IDENTITY), (IDENTITY, begun), (begun, {**begun, "start": {"x": "b"}})):
        write_run(tmp_path, {"status": "running", **written})
        with pytest.raises(RunFolderError, match=r"differs from this command in start\."):
            prepare(tmp_path, asked, {}, resume=True)


def test_a_file_or_a_folder_of_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for path in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(RunFolderError, match="not empty and not a run folder"):
            prepare(path, IDENTITY, {}, resume=True)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"{", "cannot be read"),
        (b"\xff", "cannot be read"),
        (b"", "cannot be read"),
        (b"[1]", "expected a JSON object"),
    ],
)
def test_a_damaged_run_file_is_a_sentence(tmp_path: Path, content: bytes, expected: str) -> None:
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(RunFolderError, match=rf"run\.json: {expected}.*give a run folder written by nuclei-train"):
        prepare(tmp_path, IDENTITY, {}, resume=True)


def test_the_run_file_is_written_in_one_step_and_read_back(tmp_path: Path) -> None:
    write_run(tmp_path, {"status": "running", "name": "Größe"})
    write_run(tmp_path, {"status": "complete", "name": "Größe"})
    assert read_run(tmp_path) == {"status": "complete", "name": "Größe"}
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_the_history_has_one_row_per_epoch(tmp_path: Path) -> None:
    history = [{"epoch": 1, "loss": 0.123456789012345, "seconds": 2.5}, {"epoch": 2, "loss": 1e-7, "seconds": 2.0}]
    write_history(tmp_path, history)
    with (tmp_path / "history.csv").open(newline="", encoding="utf-8") as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    assert rows == history


def test_the_versions_are_those_of_what_is_installed() -> None:
    found = versions()
    assert {"python", "nuclei-edge", "keras", "numpy", "scipy", "scikit-image", "pillow"} <= set(found)
    assert all(number[0].isdigit() for number in found.values())


def test_the_baseline_is_the_recipe_that_was_asked_for() -> None:
    assert (Baseline().seed, Baseline().size_px, Baseline().batch_size, Baseline().epochs) == (42, 128, 16, 25)
    assert (Baseline().patience, Baseline().validation_fraction, Baseline().threshold) == (2, 0.1, 0.5)
    assert [step.id for step in Baseline().preprocessing] == ["structure_normalisation", "resize"]
    assert Baseline().preprocessing[-1].kwargs == {"height": 128, "width": 128}
