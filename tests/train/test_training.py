"""nuclei-train as its users run it: the whole run, a killed one that goes on, and what it refuses."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nuclei_runtime.card import parse_card

EPOCHS = 5
COMMAND = Path(sysconfig.get_path("scripts")) / "nuclei-train"


def train(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [COMMAND, *map(str, arguments), "--recipe", "baseline"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def history(finished_run: Path) -> list[dict[str, str]]:
    return read_history(finished_run)


def read_history(run: Path) -> list[dict[str, str]]:
    with (run / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_run_folder_holds_all(finished_run: Path, history: list[dict[str, str]]) -> None:
    run = json.loads((finished_run / "run.json").read_text())
    assert run["status"] == "complete"
    assert run["parameters"] == 1_941_105
    assert run["recipe"]["name"] == "baseline"
    assert run["recipe"]["seed"] == 42
    assert (run["recipe"]["batch_size"], run["recipe"]["patience"]) == (16, 2)
    assert run["split"]["source"] == "random"
    assert run["split"]["train"] + run["split"]["val"] == run["data"]["images"] == 40
    assert run["split"]["val"] == 4
    assert len(run["data_digests"]["train"]) == 64
    assert {"python", "keras", "numpy", "nuclei-edge"} <= set(run["versions"])
    assert set(run["scores"]) == {"train", "val"}
    assert run["epochs"] == len(history)
    best = min(history, key=lambda row: float(row["val_loss"]))
    assert run["best_epoch"] == int(best["epoch"])
    assert run["scores"]["val"]["loss"] == pytest.approx(float(best["val_loss"]), rel=1e-4)
    assert list((finished_run / "tensorboard").rglob("events.out.tfevents.*"))


def test_its_description_of_the_model_is_a_card(finished_run: Path) -> None:
    run = json.loads((finished_run / "run.json").read_text())
    texts = dict.fromkeys(("name", "version", "license"), "x")
    document = {**run["model"], **texts, "schema_version": 1, "evaluation": [], "provenance": {}}
    card = parse_card(json.dumps(document), "run.json")
    assert [step.id for step in card.preprocessing] == ["percentile_normalisation", "resize"]
    assert card.postprocessing.kwargs["threshold"] == 0.5


def test_its_pictures_show_something(finished_run: Path) -> None:
    names = ["sanity_check", "curves", "predictions_train", "predictions_val", "predictions_test"]
    for name in names:
        with Image.open(finished_run / f"{name}.png") as picture:
            assert np.asarray(picture.convert("L")).std() > 10, name


def test_both_checkpoints_predict_alike_and_the_keras_one_can_be_fitted_on(finished_run: Path) -> None:
    import keras

    best = keras.models.load_model(finished_run / "best.keras")
    older = keras.models.load_model(finished_run / "model_for_nuclei.h5", compile=False)
    batch = np.random.default_rng(0).random((2, 128, 128, 3), dtype=np.float32)
    np.testing.assert_array_equal(best.predict(batch, verbose=0), older.predict(batch, verbose=0))
    assert type(best.optimizer).__name__ == "Adam"
    assert int(best.optimizer.iterations) > 0


def test_a_killed_run_goes_on_as_if_it_had_not_been(finished_run: Path, training_data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    log = tmp_path / "log.txt"
    command = [COMMAND, str(training_data), str(run), "--epochs", str(EPOCHS), "--recipe", "baseline"]
    with log.open("w") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, "PYTHONUNBUFFERED": "1"}
        )
        try:
            wait_for(lambda: "Epoch 3/" in log.read_text(), process)
            wait_for(lambda: epochs_saved(run) == 2, process)
            time.sleep(0.4)  # into the epoch, which takes more than a second
            process.send_signal(signal.SIGKILL)
        finally:
            process.kill()
            process.wait()
    assert epochs_saved(run) == 2, "the kill came after the third epoch's end: nothing is proven"
    assert log.read_text().count("val_loss") == 2

    resumed = train(training_data, run, "--epochs", str(EPOCHS), "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "going on after epoch 2" in resumed.stderr
    assert without_seconds(read_history(run)) == without_seconds(read_history(finished_run))
    assert best_weights(run) == best_weights(finished_run)
    left, right = (json.loads((folder / "run.json").read_text()) for folder in (run, finished_run))
    assert left["scores"] == right["scores"]
    assert left["best_epoch"] == right["best_epoch"]


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    for _ in range(1200):
        if condition():
            return
        assert process.poll() is None, "the training ended before it could be killed"
        time.sleep(0.1)
    pytest.fail("the training did not come so far in two minutes")


def epochs_saved(run: Path) -> int:
    path = run / "resume.npz"
    if not path.is_file():
        return 0
    with np.load(path, allow_pickle=False) as state:
        return int(json.loads(state["progress"].tobytes())["epochs_done"])


def without_seconds(history: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in history]


def best_weights(run: Path) -> list[bytes]:
    import keras

    model = keras.models.load_model(run / "best.keras", compile=False)
    return [weight.tobytes() for weight in model.get_weights()]


def test_a_finished_run_is_left_as_it_is_by_resume(finished_run: Path, training_data: Path) -> None:
    before = best_weights(finished_run), read_history(finished_run)
    again = train(training_data, finished_run, "--epochs", str(EPOCHS), "--resume")
    assert again.returncode == 0, again.stderr
    assert (best_weights(finished_run), read_history(finished_run)) == before


def test_the_random_split_is_said_to_flatter(training_data: Path, finished_run: Path) -> None:
    refused = train(training_data, finished_run, "--epochs", str(EPOCHS))
    assert refused.returncode == 2
    assert "random 10 %" in refused.stderr
    assert "sibling" in refused.stderr
    assert "--resume" in refused.stderr.splitlines()[-1]


def test_a_run_of_other_epochs_is_not_gone_on_with(training_data: Path, finished_run: Path) -> None:
    refused = train(training_data, finished_run, "--epochs", "7", "--resume")
    assert refused.returncode == 2
    assert "recipe" in refused.stderr.splitlines()[-1]


def test_a_folder_with_something_else_in_it_is_refused(training_data: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    refused = train(training_data, tmp_path)
    assert refused.returncode == 2
    assert "not empty" in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [(["nowhere", "run"], "nothing there"), (["nowhere", "run", "--recipe", "souffle"], "baseline")],
)
def test_wrong_usage_is_said(arguments: list[str], expected: str, tmp_path: Path) -> None:
    refused = subprocess.run([COMMAND, *arguments], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert refused.returncode == 2
    assert expected in refused.stderr
