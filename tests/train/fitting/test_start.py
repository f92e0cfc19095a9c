"""A training that starts from the weights of another: which checkpoints fit, and what run.json says about it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from nuclei_runtime.model.session import load_session
from nuclei_train.errors import RunFolderError
from nuclei_train.fitting.fit import TrainingConfig, train
from nuclei_train.fitting.start import BUNDLED, read_card, read_start
from nuclei_train.recipes.baseline import Baseline
from nuclei_train.recipes.native import Native, keep_maps
from nuclei_train.run_folder import read_run
from tests.train.conftest import Listener

pytestmark = pytest.mark.usefixtures("eager")

SMALL = replace(Baseline(), size_px=16, batch_size=8, epochs=1)
NATIVE = replace(Native(), filters=8, crop_px=96)
"""The network of `native_run`."""

MakeZip = Callable[..., Path]


def test_the_bundled_checkpoint_and_the_bundled_model_have_the_same_weights() -> None:
    """Whoever fine-tunes the bundled model begins with what `nuclei-infer` runs."""
    start, session = read_start(BUNDLED, Native()), load_session()
    model, inference = Native().build(), Native().build_inference()
    model.set_weights(start.weights)
    keep_maps(model.get_weights(), inference)
    batch = np.random.default_rng(0).random((2, 64, 96, 3), np.float32)
    difference = np.abs(np.asarray(inference.predict_on_batch(batch)) - session.run(batch)).max()
    assert difference < session.card.tolerance
    assert read_card(start.path)["postprocessing"] == json.loads(session.card.to_json())["postprocessing"]


def test_its_weights_are_those_of_the_best_checkpoint(native_run: Path) -> None:
    """Even if the other recipe has crops of another size: the weights do not depend on it."""
    best = native_run / "best.keras"
    expected = keras.models.load_model(best, compile=False).get_weights()
    for path, recipe in ((native_run, NATIVE), (best, replace(NATIVE, crop_px=64, epochs=7))):
        start = read_start(path, recipe)
        assert start.checkpoint == best
        assert start.digest == hashlib.sha256(best.read_bytes()).hexdigest()
        model = recipe.build()
        model.set_weights(start.weights)
        for one, other in zip(model.get_weights(), expected, strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_wider_network_begins_with_what_the_checkpoint_computes(native_run: Path) -> None:
    checkpoint = keras.models.load_model(native_run / "best.keras", compile=False)
    recipe = replace(NATIVE, filters=12)
    wide = recipe.build()
    wide.set_weights(read_start(native_run, recipe).weights)
    batch = np.random.default_rng(0).random((2, 96, 96, 3), np.float32)
    # The networks compute in bfloat16 where the processor can, with eight bits.
    expected = checkpoint.predict_on_batch(batch)
    np.testing.assert_allclose(wide.predict_on_batch(batch), expected, atol=0.02 * np.abs(expected).max())


def test_a_wider_network_begins_with_the_same_numbers_each_time(native_run: Path) -> None:
    """Its additional channels keep random weights, whatever was drawn before."""
    one, same, other = (
        read_start(native_run, replace(NATIVE, filters=12, seed=seed)).weights or [] for seed in (1, 1, 2)
    )
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        (
            replace(NATIVE, filters=4),
            r"first difference is stem/kernel \(4, 4, 3, 8\) where stem/kernel \(4, 4, 3, 4\) was",
        ),
        (
            replace(NATIVE, architecture="residual_unet"),
            "belongs to another network than the one that the recipe native trains",
        ),
        (SMALL, "belongs to another network than the one that the recipe baseline trains"),
    ],
    ids=["filters", "architecture", "recipe"],
)
def test_another_network_is_a_sentence(native_run: Path, recipe: Any, expected: str) -> None:
    with pytest.raises(RunFolderError, match=expected):
        read_start(native_run, recipe)


def test_the_network_for_inference_is_not_enough(native_run: Path) -> None:
    with pytest.raises(RunFolderError, match=r"maps/kernel .* start from best\.keras"):
        read_start(native_run / "inference.keras", NATIVE)


def test_a_file_that_is_not_a_checkpoint_is_refused_with_a_message(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"best\.keras: there is no such checkpoint"):
        read_start(tmp_path, NATIVE)
    (tmp_path / "best.keras").write_bytes(b"no zip")
    with pytest.raises(RunFolderError, match=r"best\.keras: cannot be read .*; copy it again"):
        read_start(tmp_path, NATIVE)


def test_it_continues_with_batches_that_the_checkpoint_never_saw(native_run: Path, finished_run: Path) -> None:
    one, other = (
        read_start(run, recipe).skipped_epochs for run, recipe in ((native_run, NATIVE), (finished_run, SMALL))
    )
    assert one > 0
    assert other > 0
    assert one != other
    assert one == read_start(native_run, NATIVE).skipped_epochs


def test_a_training_begins_with_them_and_says_so(finished_run: Path, make_dsb_zip: MakeZip, tmp_path: Path) -> None:
    """With a learning rate of 0 nothing changes: the best checkpoint is the start."""
    data = make_dsb_zip(tmp_path / "stage1_train.zip", range(8), size=(48, 48))
    best, run, listener = finished_run / "best.keras", tmp_path / "run", Listener()
    still = replace(SMALL, learning_rate=0.0)
    train(TrainingConfig(data, run, still, resume=False, start=finished_run), listener)
    assert listener.sentences[-1] == f"starting from the weights of {best}"
    assert read_run(run)["start"] == {"checkpoint_sha256": hashlib.sha256(best.read_bytes()).hexdigest()}
    weights = [keras.models.load_model(one / "best.keras", compile=False).get_weights() for one in (finished_run, run)]
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_run_that_began_so_resumes_without_them(finished_run: Path, make_dsb_zip: MakeZip, tmp_path: Path) -> None:
    data = make_dsb_zip(tmp_path / "stage1_train.zip", range(8), size=(48, 48))
    whole, part = tmp_path / "whole", tmp_path / "part"
    two = replace(SMALL, epochs=2)
    for run in (whole, part):
        listener = Listener()
        train(TrainingConfig(data, run, two, resume=False, start=finished_run), listener)
    assert any("may have been fitted on some of the images that are now held out" in one for one in listener.sentences)
    expected = (whole / "history.csv").read_text(encoding="utf-8").splitlines()

    # As after a kill in the second epoch: the first one is saved, and the folder of the start no longer exists.
    one_epoch = tmp_path / "one"
    train(TrainingConfig(data, one_epoch, SMALL, resume=False, start=finished_run), Listener())
    for name in ("resume.npz", "best.keras"):
        (part / name).write_bytes((one_epoch / name).read_bytes())
    listener = Listener()
    assert train(TrainingConfig(data, part, two, resume=True), listener).epochs == 2
    assert listener.sentences[-1] == "resuming after epoch 1"
    assert read_run(part)["start"] == read_run(whole)["start"]
    found = (part / "history.csv").read_text(encoding="utf-8").splitlines()
    assert [line.split(",")[:-1] for line in found] == [line.split(",")[:-1] for line in expected]


def test_in_its_first_epoch_a_run_finds_the_weights_that_it_began_with(
    finished_run: Path, make_dsb_zip: MakeZip, tmp_path: Path
) -> None:
    data, run = make_dsb_zip(tmp_path / "stage1_train.zip", range(8), size=(48, 48)), tmp_path / "run"
    start = tmp_path / "start.keras"
    shutil.copy(finished_run / "best.keras", start)
    train(TrainingConfig(data, run, SMALL, resume=False, start=start), Listener())
    assert read_run(run)["paths"] == {"start": str(start)}
    expected = (run / "history.csv").read_text(encoding="utf-8").splitlines()
    (run / "resume.npz").unlink()
    listener = Listener()
    train(TrainingConfig(data, run, SMALL, resume=True), listener)
    assert listener.sentences[-1] == f"starting from the weights of {start}"
    found = (run / "history.csv").read_text(encoding="utf-8").splitlines()
    assert [line.split(",")[:-1] for line in found] == [line.split(",")[:-1] for line in expected]

    (run / "resume.npz").unlink()
    other = keras.models.load_model(start)
    other.set_weights([weight + 1 for weight in other.get_weights()])
    other.save(start)
    with pytest.raises(RunFolderError, match=r"differs from this command in start\.checkpoint_sha256"):
        train(TrainingConfig(data, run, SMALL, resume=True), Listener())
    start.unlink()
    with pytest.raises(RunFolderError, match=r"start\.keras: there is no such checkpoint"):
        train(TrainingConfig(data, run, SMALL, resume=True), Listener())


def test_a_start_that_does_not_fit_leaves_no_run(native_run: Path, make_dsb_zip: MakeZip, tmp_path: Path) -> None:
    data = make_dsb_zip(tmp_path / "stage1_train.zip", range(8), size=(48, 48))
    with pytest.raises(RunFolderError, match="belongs to another network"):
        train(TrainingConfig(data, tmp_path / "run", SMALL, resume=False, start=native_run), Listener())
    assert not (tmp_path / "run").exists()
