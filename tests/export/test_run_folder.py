"""What an export reads from a run folder, which is exactly what the training writes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nuclei_export.errors import RunFolderError
from nuclei_export.run_folder import read_finished_run
from nuclei_runtime.model.card import parse_card
from nuclei_train.data.finding import open_data, training_set
from nuclei_train.data.split import split_samples
from nuclei_train.recipes.native import INFERENCE_CHECKPOINT, Native
from nuclei_train.recipes.recipe import Sources


@pytest.fixture
def run(native_run: Path, tmp_path: Path) -> Path:
    """A copy of the files that an export reads."""
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("run.json", INFERENCE_CHECKPOINT, "quantisation.npz"):
        shutil.copy(native_run / name, folder)
    return folder


def change(run: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads((run / "run.json").read_text(encoding="utf-8"))
    edit(content["export"])
    (run / "run.json").write_text(json.dumps(content), encoding="utf-8")


def test_the_training_writes_what_the_export_reads(native_run: Path, training_data: Path) -> None:
    """Every field, down to the pixels: crops of the training images, and the images used for validation."""
    found = read_finished_run(native_run)
    assert found.checkpoint == native_run / INFERENCE_CHECKPOINT
    assert found.checkpoint.is_file()
    card = {**found.card, **dict.fromkeys(("name", "version", "license"), "x"), "schema_version": 1, "evaluation": []}
    assert parse_card(json.dumps(card), "run.json").provenance["recipe"] == "native"

    split = split_samples(training_set(open_data(training_data)), None, Native().seed, 0.1)
    expected = Native().load(Sources(split, {}, ()), lambda: None).val
    data = read_finished_run(native_run).read_quantisation_data()
    assert data.scored_on == "the validation images"
    assert len(data.images) == len(data.labels) == len(split.val)
    for kept, loaded in ((data.images, expected.images), (data.labels, expected.labels)):
        for one, other in zip(kept, loaded, strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)
    assert data.crops.dtype == np.uint8
    assert data.crops.shape == (8 * 4, 96, 96, 3)  # batches, images in each, and the size, of `native_run`
    assert data.crops.std() > 10


def test_the_export_takes_every_name_from_the_run(run: Path) -> None:
    """The training may rename its files and arrays without the export knowing."""
    before = read_finished_run(run).read_quantisation_data()
    with np.load(run / "quantisation.npz") as stored:
        renamed = {f"renamed {name}": stored[name] for name in stored.files}
    (run / "quantisation.npz").unlink()
    np.savez(run / "other.npz", **renamed)
    (run / INFERENCE_CHECKPOINT).rename(run / "other.keras")

    def rename(export: dict[str, Any]) -> None:
        names = export["quantisation"]
        export["checkpoint"] = "other.keras"
        export["quantisation"] = {
            "file": "other.npz",
            "crops": f"renamed {names['crops']}",
            **{kind: [f"renamed {name}" for name in names[kind]] for kind in ("images", "labels")},
        }

    change(run, rename)
    found = read_finished_run(run)
    assert found.checkpoint == run / "other.keras"
    after = found.read_quantisation_data()
    np.testing.assert_array_equal(before.crops, after.crops)
    for one, other in zip((*before.images, *before.labels), (*after.images, *after.labels), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lambda export: export.update(quantisation=None), "contains no images to measure int8 on"),
        (lambda export: export["quantisation"].pop("crops"), "cannot be read .*'crops'"),
        (lambda export: export["quantisation"].update(images=["nothing"]), "cannot be read .*nothing"),
        (lambda export: export["quantisation"].update(file="../x.npz"), "expected the name of a file in the folder"),
        (lambda export: export.update(quantisation=[]), "cannot be read"),
    ],
)
def test_without_its_data_int8_is_refused(run: Path, edit: Callable[[dict[str, Any]], object], expected: str) -> None:
    change(run, edit)
    found = read_finished_run(run)
    with pytest.raises(RunFolderError, match=expected):
        found.read_quantisation_data()


def test_a_run_of_the_baseline_has_no_data_for_int8(finished_run: Path) -> None:
    with pytest.raises(RunFolderError, match="export a run of the recipe native, or in another precision"):
        read_finished_run(finished_run).read_quantisation_data()
