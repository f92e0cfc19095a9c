"""nuclei-train as its users run it: the whole run, a killed one that goes on, and what it refuses."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sysconfig
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image

from nuclei_runtime.model.card import parse_card
from nuclei_train.cli import train_main
from nuclei_train.data.dsb2018 import open_data, training_set
from nuclei_train.data.samples import combined_digest
from nuclei_train.data.split import split_samples
from nuclei_train.data.split_table import read_split_table

EPOCHS = 5
OPTIONS = ("--recipe", "baseline", "--epochs", EPOCHS)

RunMain = Callable[..., tuple[int, str, str]]
RunScript = Callable[..., subprocess.CompletedProcess[str]]


def read_run(run: Path) -> dict[str, Any]:
    return dict(json.loads((run / "run.json").read_text(encoding="utf-8")))


def read_history(run: Path) -> list[dict[str, str]]:
    with (run / "history.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def without_seconds(history: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in history]


def best_weights(run: Path) -> list[bytes]:
    model = keras.models.load_model(run / "best.keras", compile=False)
    return [weight.tobytes() for weight in model.get_weights()]


def epochs_saved(run: Path) -> list[dict[str, float]]:
    """Return the rows of the epochs whose state is kept."""
    path = run / "resume.npz"
    if not path.is_file():
        return []
    with np.load(path, allow_pickle=False) as state:
        return list(json.loads(state["progress"].tobytes())["history"])


def test_the_run_folder_holds_all(finished_run: Path) -> None:
    assert sorted(path.name for path in finished_run.iterdir()) == [
        "best.keras",
        "curves.png",
        "history.csv",
        "images.csv",
        "model_for_nuclei.h5",
        "predictions_test.png",
        "predictions_train.png",
        "predictions_val.png",
        "resume.npz",
        "run.json",
        "sanity_check.png",
        "tensorboard",
    ]


def test_its_json_says_what_was_done_with_what(finished_run: Path, training_data: Path) -> None:
    run = read_run(finished_run)
    assert run["status"] == "complete"
    assert run["parameters"] == 1_941_105
    recipe = {"name": "baseline", "seed": 42, "size_px": 128, "batch_size": 16, "patience": 2, "epochs": EPOCHS}
    assert recipe.items() <= run["recipe"].items()
    assert run["recipe"]["learning_rate"] == 0.001
    assert run["backend"] == keras.backend.backend()
    assert run["versions"]["keras"] == keras.__version__
    assert {"python", "numpy", "scikit-image", "nuclei-edge"} <= set(run["versions"])

    dataset = training_set(open_data(training_data))
    split = split_samples(dataset, None, 42, 0.1)
    assert run["data"] == {"name": "stage1_train", "images": 40}
    assert run["split"] == {"source": "random", "digest": split.digest, "train": 36, "val": 4}
    assert run["data_digests"] == {
        "train": combined_digest(sample.digest() for sample in split.train),
        "val": combined_digest(sample.digest() for sample in split.val),
    }


def test_its_scores_are_those_of_the_best_epoch(finished_run: Path) -> None:
    run, history = read_run(finished_run), read_history(finished_run)
    assert run["epochs"] == len(history)
    assert [int(row["epoch"]) for row in history] == list(range(1, len(history) + 1))
    best = min(history, key=lambda row: float(row["val_loss"]))
    assert run["best_epoch"] == int(best["epoch"])
    assert set(run["scores"]) == {"train", "val"}
    assert run["scores"]["val"]["loss"] == pytest.approx(float(best["val_loss"]), rel=1e-4)
    assert run["scores"]["val"]["accuracy"] == pytest.approx(float(best["val_accuracy"]), abs=1e-4)
    assert run["seconds"]["epochs"] == pytest.approx(sum(float(row["seconds"]) for row in history), abs=0.1)
    assert run["scores"]["train"]["accuracy"] > 0.8  # it learns


def test_its_description_of_the_model_is_a_card(finished_run: Path) -> None:
    run = read_run(finished_run)
    texts = dict.fromkeys(("name", "version", "license"), "x")
    document = {**run["model"], **texts, "schema_version": 1, "evaluation": [], "provenance": {}}
    card = parse_card(json.dumps(document), "run.json")
    assert [step.id for step in card.preprocessing] == ["percentile_normalisation", "resize"]
    assert card.postprocessing.kwargs["threshold"] == 0.5
    assert card.tolerance == 1e-4
    assert 5 < card.training_nucleus_diameter_px < 40
    assert len(card.limitations) >= 3


@pytest.mark.parametrize("name", ["sanity_check", "curves", "predictions_train", "predictions_val", "predictions_test"])
def test_its_pictures_show_something(finished_run: Path, name: str) -> None:
    with Image.open(finished_run / f"{name}.png") as picture:
        assert min(picture.size) > 300
        assert np.asarray(picture.convert("L")).std() > 10


def test_both_checkpoints_predict_alike_and_the_keras_one_can_be_fitted_on(finished_run: Path) -> None:
    best = keras.models.load_model(finished_run / "best.keras")
    older = keras.models.load_model(finished_run / "model_for_nuclei.h5", compile=False)
    batch = np.random.default_rng(0).random((2, 128, 128, 3), dtype=np.float32)
    np.testing.assert_array_equal(best.predict(batch, verbose=0), older.predict(batch, verbose=0))
    assert type(best.optimizer).__name__ == "Adam"
    steps_per_epoch = 3  # 36 images in batches of 16
    assert int(best.optimizer.iterations) == read_run(finished_run)["best_epoch"] * steps_per_epoch
    moments = [variable for variable in best.optimizer.variables if "velocity" in variable.path]
    assert any(float(keras.ops.max(variable)) > 0 for variable in moments)


def test_tensorboard_can_show_its_losses(finished_run: Path) -> None:
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="TensorBoard is not installed"
    )
    for side in ("train", "validation"):
        events = accumulator.EventAccumulator(str(finished_run / "tensorboard" / side))
        events.Reload()
        assert len(events.Tensors("epoch_loss")) == len(read_history(finished_run))


def test_what_it_prints_can_be_read(finished_run: Path, training_data: Path) -> None:
    """Sentences on stderr, of which one says what a random split hides; epochs and scores on stdout."""
    warning, counts = (finished_run.parent / "stderr.txt").read_text(encoding="utf-8").splitlines()
    assert warning.startswith("No images.csv beside the data: a random 10 % of the images validates.")
    assert "flatter the model" in warning
    # The split that was drawn is in the run folder, in the form in which it can be given again.
    table = read_split_table(finished_run)
    assert table is not None
    assert Counter(table.split.values()) == {"train": 36, "val": 4}
    dataset = training_set(open_data(training_data))
    again = split_samples(dataset, table, seed=0, validation_fraction=0.5)
    assert again.digest == read_run(finished_run)["split"]["digest"]
    zip_file = training_data / "stage1_train.zip"
    assert counts == f"{zip_file}: 36 images to fit, 4 to validate, 0 left out (random)"
    lines = (finished_run.parent / "stdout.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith("Epoch ")] == [f"Epoch {n}/{EPOCHS}" for n in range(1, 6)]
    assert lines[-3].startswith("train: loss 0.")
    assert lines[-2].startswith("val: loss 0.")
    assert lines[-1].startswith(f"{EPOCHS} epochs in ")
    assert lines[-1].endswith(f"next: nuclei-export {finished_run} model.onnx")


def test_a_killed_run_goes_on_as_if_it_had_not_been(
    finished_run: Path, training_data: Path, run_script: RunScript, tmp_path: Path
) -> None:
    run, log = tmp_path / "run", tmp_path / "log.txt"
    script = Path(sysconfig.get_path("scripts")) / "nuclei-train"
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            [str(script), str(training_data), str(run), *map(str, OPTIONS)],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        try:
            wait_for(lambda: "Epoch 3/" in log.read_text(encoding="utf-8"), process)
            time.sleep(epochs_saved(run)[1]["seconds"] / 3)  # into the epoch
        finally:
            process.kill()  # SIGKILL: nothing can be tidied up
            process.wait()
    printed = log.read_text(encoding="utf-8")
    assert len(epochs_saved(run)) == 2, "the kill came after the third epoch's end: nothing is proven"
    assert printed.count("val_loss") == 2  # Keras prints it at an epoch's end
    assert read_run(run)["status"] == "running"
    assert not (run / "history.csv").exists()

    resumed = run_script("nuclei-train", training_data, run, *OPTIONS, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "going on after epoch 2" in resumed.stderr.splitlines()
    assert "Epoch 3/5" in resumed.stdout
    assert "Epoch 2/5" not in resumed.stdout
    assert without_seconds(read_history(run)) == without_seconds(read_history(finished_run))
    assert best_weights(run) == best_weights(finished_run)
    left, right = read_run(run), read_run(finished_run)
    assert left.pop("seconds").keys() == right.pop("seconds").keys()
    assert left == right


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    for _ in range(12_000):
        if condition():
            return
        assert process.poll() is None, "the training ended before it could be killed"
        time.sleep(0.02)
    pytest.fail("the training did not come so far in four minutes")


def test_a_run_folder_is_not_taken_twice(finished_run: Path, training_data: Path, run_script: RunScript) -> None:
    before = (finished_run / "run.json").read_bytes()
    refused = run_script("nuclei-train", training_data, finished_run, *OPTIONS)
    assert refused.returncode == 2
    assert refused.stdout == ""
    last = refused.stderr.splitlines()[-1]
    assert last == f"error: {finished_run}: already holds a run; add --resume to go on with it, or name a new folder"
    assert (finished_run / "run.json").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "differing"),
    [
        (("--epochs", 7), "recipe.epochs (5 there, 7 here)"),
        (("--epochs", 5, "--learning-rate", 5e-4), "recipe.learning_rate (0.001 there, 0.0005 here)"),
    ],
    ids=["epochs", "learning rate"],
)
def test_a_run_of_other_options_is_not_gone_on_with(
    training_data: Path, finished_run: Path, run_main: RunMain, options: tuple[object, ...], differing: str
) -> None:
    code, _, err = run_main(train_main, training_data, finished_run, "--recipe", "baseline", *options, "--resume")
    assert code == 2
    assert f"its run differs from this command in {differing} and" in err


def test_a_run_on_other_data_is_not_gone_on_with(
    finished_run: Path, make_dsb_zip: Callable[..., Path], run_main: RunMain, tmp_path: Path
) -> None:
    data = make_dsb_zip(tmp_path / "stage1_train.zip", range(40), size=(96, 132))  # by name the same images
    code, _, err = run_main(train_main, data, finished_run, *OPTIONS, "--resume")
    assert code == 2
    assert "its run differs from this command in data_digests.train (" in err


def test_a_folder_with_something_else_in_it_is_refused(training_data: Path, run_main: RunMain, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    code, _, err = run_main(train_main, training_data, tmp_path)
    assert code == 2
    assert "not empty and not a run; name a new folder" in err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nowhere", "run"], "there is nothing there"),
        (["nowhere", "run", "--recipe", "souffle"], "found 'souffle', expected one of"),
        (["nowhere", "run", "--epochs", "0"], "--epochs"),
        (["nowhere"], "Missing argument"),
    ],
)
def test_wrong_usage_is_said(arguments: list[str], expected: str, run_main: RunMain) -> None:
    code, out, err = run_main(train_main, *arguments)
    assert (code, out) == (2, "")
    assert expected in err
