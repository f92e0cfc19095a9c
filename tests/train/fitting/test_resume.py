"""The state from which a killed training resumes, part by part, on a network that trains very quickly."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from nuclei_train.errors import RunFolderError
from nuclei_train.fitting.progress import Progress
from nuclei_train.fitting.resume import ResumableEarlyStopping, SaveProgress, load_state, save_state

EPOCHS = 12
PATIENCE = 2


class Kill(keras.callbacks.Callback):  # type: ignore[misc]
    """Ends a fit in the middle of an epoch."""

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self._epoch = epoch
        self._now = -1

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        self._now = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        if self._now == self._epoch and batch == 1:
            raise KeyboardInterrupt


def small_model() -> keras.Model:
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(64, activation="relu"), keras.layers.Dropout(0.5), keras.layers.Dense(1)]
    )
    model.compile(optimizer=keras.optimizers.Adam(0.003), loss="mse", run_eagerly=True)
    return model


def pairs(target: float) -> tuple[np.ndarray, np.ndarray]:
    return np.random.default_rng(0).random((32, 4), dtype=np.float32), np.full((32, 1), target, np.float32)


FITTED, VALIDATED = pairs(1.0), pairs(0.5)
"""On its way to 1 the network passes 0.5: the validation loss falls, then rises."""


def fit(folder: Path, *others: keras.callbacks.Callback) -> Progress:
    """Fit as a training does: from the state in the folder, if any, with the same callbacks in the same order."""
    model = small_model()
    state = folder / "state.npz"
    progress = load_state(state, model) if state.is_file() else Progress()
    stopping = ResumableEarlyStopping(progress, patience=PATIENCE)
    checkpoint = keras.callbacks.ModelCheckpoint(
        folder / "best.keras", save_best_only=True, initial_value_threshold=progress.best_val_loss
    )
    model.fit(
        *FITTED,
        batch_size=8,
        epochs=EPOCHS,
        initial_epoch=progress.epochs_done,
        shuffle=False,
        validation_data=VALIDATED,
        verbose=0,
        callbacks=[*others, checkpoint, stopping, SaveProgress(progress, stopping, state)],
    )
    return progress


def best_weights(folder: Path) -> list[bytes]:
    model = keras.models.load_model(folder / "best.keras", compile=False)
    return [weight.tobytes() for weight in model.get_weights()]


def without_seconds(progress: Progress) -> list[dict[str, float]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in progress.history]


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Progress]:
    """An uninterrupted training, which EarlyStopping ended."""
    folder = tmp_path_factory.mktemp("straight")
    progress = fit(folder)
    losses = [row["val_loss"] for row in progress.history]
    best = losses.index(min(losses))
    # Otherwise the tests below would prove little: the best epoch is neither first nor last, and a stop follows.
    assert 0 < best < len(losses) - 1
    assert len(losses) == best + 1 + PATIENCE < EPOCHS
    return folder, progress


@pytest.mark.parametrize("from_the_end", [1, 2, 3])
def test_a_killed_training_stops_where_it_would_have_and_keeps_its_best(
    straight: tuple[Path, Progress], tmp_path: Path, from_the_end: int
) -> None:
    """Killed in each of its last epochs: with the counter at one and at zero, before and after the best epoch."""
    folder, undisturbed = straight
    killed_in = undisturbed.epochs_done - from_the_end
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, Kill(killed_in))
    assert load_state(tmp_path / "state.npz", small_model()).epochs_done == killed_in
    resumed = fit(tmp_path)
    assert without_seconds(resumed) == without_seconds(undisturbed)
    assert resumed.best_val_loss == undisturbed.best_val_loss
    assert resumed.epochs_without_gain == undisturbed.epochs_without_gain == PATIENCE
    assert best_weights(tmp_path) == best_weights(folder)


def test_the_state_holds_dropout_and_the_optimiser(tmp_path: Path) -> None:
    straight = small_model()
    straight.fit(*FITTED, epochs=1, shuffle=False, verbose=0)
    save_state(tmp_path / "state.npz", straight, Progress(epochs_done=1))
    straight.fit(*FITTED, epochs=1, shuffle=False, verbose=0)

    resumed, forgetful = small_model(), small_model()
    assert load_state(tmp_path / "state.npz", resumed).epochs_done == 1
    load_state(tmp_path / "state.npz", forgetful)
    forgetful.layers[1].seed_generator.state.assign([7, 7])
    for model in (resumed, forgetful):
        model.fit(*FITTED, epochs=1, shuffle=False, verbose=0)
    for one, other in zip(straight.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(straight.get_weights()[0], forgetful.get_weights()[0])  # dropout does matter here


def test_progress_is_written_after_each_epoch_in_one_step(tmp_path: Path) -> None:
    progress = fit(tmp_path)
    read = load_state(tmp_path / "state.npz", small_model())
    assert read == progress
    assert [row["epoch"] for row in read.history] == list(range(1, read.epochs_done + 1))
    assert read.best_val_loss == min(row["val_loss"] for row in read.history)
    assert all(row["seconds"] >= 0 for row in read.history)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.keras", "state.npz"]


def damaged(content: bytes, kind: str) -> bytes:
    middle = len(content) // 2
    if kind == "empty":
        return b""
    if kind == "truncated":
        return content[:middle]
    return content[:middle] + bytes(byte ^ 0xFF for byte in content[middle : middle + 64]) + content[middle + 64 :]


@pytest.mark.parametrize("kind", ["empty", "truncated", "overwritten"])
def test_a_damaged_state_is_a_sentence(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "state.npz"
    save_state(path, small_model(), Progress(epochs_done=1))
    path.write_bytes(damaged(path.read_bytes(), kind))
    with pytest.raises(RunFolderError, match=r"state.npz: this training cannot be resumed from it .* new folder"):
        load_state(path, small_model())


def test_the_state_of_another_network_is_a_sentence(tmp_path: Path) -> None:
    other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    other.compile(optimizer="adam", loss="mse")
    other.optimizer.build(other.trainable_variables)
    save_state(tmp_path / "state.npz", other, Progress(epochs_done=1))
    with pytest.raises(
        RunFolderError, match=r"cannot be resumed from it \(The shape of the target .{,130}\); train again"
    ):
        load_state(tmp_path / "state.npz", small_model())
