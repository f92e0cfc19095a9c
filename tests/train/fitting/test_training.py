"""nuclei-train as its users run it: a complete run, stopped and resumed runs, and what it refuses."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sysconfig
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from nuclei_runtime.cli.command import StopSignals
from nuclei_runtime.model.card import parse_card
from nuclei_train.cli import train as train_command
from nuclei_train.cli.train import main as train_main
from nuclei_train.data.finding import open_data, training_set
from nuclei_train.data.samples import combined_digest
from nuclei_train.data.split import split_samples
from nuclei_train.data.split_table import read_split_table
from nuclei_train.run_folder import read_run

EPOCHS = 5
OPTIONS = ("--recipe", "baseline", "--epochs", EPOCHS)

RunMain = Callable[..., tuple[int, str, str]]
RunScript = Callable[..., subprocess.CompletedProcess[str]]


def read_history(run: Path) -> list[dict[str, str]]:
    with (run / "history.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def without_seconds(history: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in history]


def best_weights(run: Path) -> list[bytes]:
    model = keras.models.load_model(run / "best.keras", compile=False)
    return [weight.tobytes() for weight in model.get_weights()]


def epochs_saved(run: Path) -> list[dict[str, float]]:
    """Return the rows of the epochs whose state was saved."""
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
        "model_for_nuclei.h5",
        "predictions_test.png",
        "predictions_train.png",
        "predictions_val.png",
        "resume.npz",
        "run.json",
        "sanity_check.png",
        "splits.csv",
        "tensorboard",
    ]


@pytest.mark.parametrize("trained", ["finished_run", "native_run"])
def test_the_page_on_training_names_every_file_in_it(trained: str, request: pytest.FixtureRequest) -> None:
    page = (Path(__file__).parents[3] / "docs/train.md").read_text(encoding="utf-8")
    table = page[page.index("## What a run folder contains") :]
    run = request.getfixturevalue(trained)
    assert [path.name for path in run.iterdir() if f"`{path.name}{'/' * path.is_dir()}`" not in table] == []


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
    assert run["data"] | {"modalities_sha256": ""} == {"name": "stage1_train", "images": 40, "modalities_sha256": ""}
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
    document = {**run["export"]["card"], **texts, "schema_version": 1, "evaluation": []}
    card = parse_card(json.dumps(document), "run.json")
    assert [step.id for step in card.preprocessing] == ["structure_normalisation", "resize"]
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
    """Messages on stderr, including a warning about the random split; epochs and scores on stdout."""
    warning, counts = (finished_run.parent / "stderr.txt").read_text(encoding="utf-8").splitlines()
    assert warning.startswith(
        "There is no splits.csv next to the data and no folder val, so a random 10% of the images is used for "
        "validation."
    )
    assert "the validation scores are too good" in warning
    # The random split is in the run folder, in a form that can be used again.
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


POSIX_ONLY = pytest.mark.skipif(os.name == "nt", reason="NOT RUN: Windows sends Ctrl-C to a whole console, this one's")


@pytest.fixture
def handles_signals() -> Iterator[None]:
    """Handle Ctrl-C here and in child processes, even if a shell started the tests in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Training:
    """An installed nuclei-train at work, and what it has printed so far on both streams."""

    def __init__(self, log: Path, *arguments: object, **variables: str) -> None:
        self._log = log
        script = Path(sysconfig.get_path("scripts")) / "nuclei-train"
        with log.open("w", encoding="utf-8") as output:
            self._process = subprocess.Popen(
                [str(script), *map(str, arguments)],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **variables},
            )

    @property
    def printed(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def end(self, number: int, when: Callable[[], bool], delay_s: float = 0.0) -> int:
        """Send one signal as soon as a condition holds, or a little later, and return the exit code."""
        try:
            for _ in range(12_000):
                if when():
                    break
                assert self._process.poll() is None, f"the training ended too early: {self.printed}"
                time.sleep(0.02)
            else:
                pytest.fail(f"the training did not come so far in four minutes: {self.printed}")
            time.sleep(delay_s)
            self._process.send_signal(number)
            return self._process.wait(timeout=240)
        finally:
            self._process.kill()
            self._process.wait()


@POSIX_ONLY
@pytest.mark.usefixtures("handles_signals")
def test_a_run_stopped_several_times_ends_like_an_uninterrupted_one(
    finished_run: Path, training_data: Path, run_script: RunScript, tmp_path: Path
) -> None:
    """By Ctrl-C, SIGTERM and SIGKILL, while loading and within epochs. Options are given only the first time."""
    run, log = tmp_path / "run", tmp_path / "log.txt"
    to_resume = f"to resume: nuclei-train {training_data} {run} --resume"

    training = Training(log, training_data, run, *OPTIONS)
    assert training.end(signal.SIGINT, (run / "run.json").exists) == 130
    assert training.printed.splitlines()[-1] == f"stopped: no epoch was complete; {to_resume}"
    assert "Traceback" not in training.printed

    training = Training(log, training_data, run, "--resume")
    assert training.end(signal.SIGTERM, lambda: "Epoch 1/5" in training.printed, 0.5) == 143
    assert training.printed.splitlines()[-2:] == [
        "stopping after this batch; Ctrl-C again stops at once",
        f"stopped: no epoch was complete; {to_resume}",
    ]
    assert "Traceback" not in training.printed

    training = Training(log, training_data, run, "--resume")
    assert training.end(signal.SIGINT, lambda: "Epoch 2/5" in training.printed) == 130
    kept = len(epochs_saved(run))
    assert kept > 0
    assert training.printed.splitlines()[-1] == f"stopped: epoch {kept} is kept in {run}; {to_resume}"
    assert "Traceback" not in training.printed

    training = Training(log, training_data, run, "--resume")
    killed_in = f"Epoch {kept + 2}/5"
    assert training.end(signal.SIGKILL, lambda: killed_in in training.printed, 0.1) == -signal.SIGKILL
    assert f"resuming after epoch {kept}" in training.printed.splitlines()
    assert len(epochs_saved(run)) == kept + 1, "the kill came after the epoch's end: nothing is proven"
    assert read_run(run)["status"] == "running"
    assert not (run / "history.csv").exists()

    resumed = run_script("nuclei-train", training_data, run, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert f"resuming after epoch {kept + 1}" in resumed.stderr.splitlines()
    assert killed_in in resumed.stdout
    assert f"Epoch {kept + 1}/5" not in resumed.stdout
    assert without_seconds(read_history(run)) == without_seconds(read_history(finished_run))
    assert best_weights(run) == best_weights(finished_run)
    left, right = read_run(run), read_run(finished_run)
    assert left.pop("seconds").keys() == right.pop("seconds").keys()
    assert left == right


@POSIX_ONLY
@pytest.mark.usefixtures("handles_signals")
def test_a_run_stopped_before_it_began_says_so(training_data: Path, tmp_path: Path) -> None:
    """While TensorFlow is imported, which takes seconds and happens before anything is written."""
    run = tmp_path / "run"
    # Python then prints each module that it has imported: the last one before TensorFlow shows when to interrupt.
    training = Training(tmp_path / "log.txt", training_data, run, PYTHONPROFILEIMPORTTIME="1")
    assert training.end(signal.SIGINT, lambda: "nuclei_train.recipes.registry" in training.printed, 0.2) == 130
    said = "stopped: the run had not begun, and nothing is kept; to begin it, repeat the command"
    assert training.printed.splitlines()[-1] == said
    assert "Traceback" not in training.printed
    assert not run.exists()


def test_an_interrupt_in_disguise_is_recognised() -> None:
    """TensorFlow calls Python from C++, where a pending exception becomes a SystemError."""
    assert train_command._is_interrupt(KeyboardInterrupt())
    error = SystemError("returned a result with an exception set")
    assert not train_command._is_interrupt(error)
    error.__cause__ = KeyboardInterrupt()
    wrapped = RuntimeError("while loading")
    wrapped.__context__ = error
    assert train_command._is_interrupt(wrapped)


def send(number: int) -> None:
    """Send a signal to this process and let Python handle it."""
    os.kill(os.getpid(), number)
    time.sleep(0.05)


@POSIX_ONLY
@pytest.mark.usefixtures("handles_signals")
def test_an_interrupt_that_was_lost_is_raised_again() -> None:
    """As in a destructor, where Python prints the exception and continues."""
    with StopSignals() as signals:
        reporter = train_command._CommandLineReporter(signals)
        with reporter.loading(3) as advance:
            advance()
            with suppress(KeyboardInterrupt):
                send(signal.SIGINT)
            with pytest.raises(KeyboardInterrupt):
                advance()
        with pytest.raises(KeyboardInterrupt):
            reporter.say("more")
    assert signals.exit_code == 130


@POSIX_ONLY
@pytest.mark.usefixtures("handles_signals")
def test_within_epochs_a_signal_is_only_noted_and_the_second_interrupts(capfd: pytest.CaptureFixture[str]) -> None:
    with StopSignals() as signals:
        reporter = train_command._CommandLineReporter(signals)
        with pytest.raises(KeyboardInterrupt), reporter.fitting() as stop_requested:  # noqa: PT012
            assert not stop_requested()
            send(signal.SIGTERM)
            assert stop_requested()
            with pytest.raises(KeyboardInterrupt):
                send(signal.SIGINT)
    assert signals.exit_code == 143
    assert capfd.readouterr().err == "stopping after this batch; Ctrl-C again stops at once\n"


def test_a_run_folder_is_not_taken_twice(finished_run: Path, training_data: Path, run_here: RunScript) -> None:
    before = (finished_run / "run.json").read_bytes()
    refused = run_here("nuclei-train", training_data, finished_run, *OPTIONS)
    assert refused.returncode == 2
    assert refused.stdout == ""
    last = refused.stderr.splitlines()[-1]
    assert last == f"error: {finished_run}: already contains a run; add --resume to resume it, or choose a new folder"
    assert (finished_run / "run.json").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "differing"),
    [
        (("--epochs", 7), "recipe.epochs (5 in the run, 7 in the command)"),
        (("--learning-rate", 5e-4), "recipe.learning_rate (0.001 in the run, 0.0005 in the command)"),
        (("--recipe", "native"), 'recipe.name ("baseline" in the run, "native" in the command)'),
    ],
    ids=["epochs", "learning rate", "recipe"],
)
def test_a_run_of_other_options_is_not_resumed(
    training_data: Path, finished_run: Path, run_main: RunMain, options: tuple[object, ...], differing: str
) -> None:
    code, _, err = run_main(train_main, training_data, finished_run, *options, "--resume")
    assert code == 2
    assert f"cannot resume this run, because it differs from this command in {differing};" in err


def test_a_run_on_other_data_is_not_resumed(
    finished_run: Path, make_dsb_zip: Callable[..., Path], run_main: RunMain, tmp_path: Path
) -> None:
    data = make_dsb_zip(tmp_path / "stage1_train.zip", range(40), size=(96, 132))  # the same images by name
    code, _, err = run_main(train_main, data, finished_run, *OPTIONS, "--resume")
    assert code == 2
    assert "it differs from this command in data_digests.train (" in err


def test_a_folder_with_something_else_in_it_is_refused(training_data: Path, run_main: RunMain, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    code, _, err = run_main(train_main, training_data, tmp_path)
    assert code == 2
    assert "not empty and not a run folder; choose a new folder" in err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nowhere", "run"], "does not exist; give a folder"),
        (["nowhere", "run", "--recipe", "souffle"], "found 'souffle', expected one of"),
        (["nowhere", "run", "--epochs", "0"], "--epochs"),
        (["nowhere"], "Missing argument"),
    ],
)
def test_wrong_usage_is_said(arguments: list[str], expected: str, run_main: RunMain) -> None:
    code, out, err = run_main(train_main, *arguments)
    assert (code, out) == (2, "")
    assert expected in err
