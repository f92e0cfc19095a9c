"""The state that a killed training goes on from, piece by piece."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np

from nuclei_train.resume import Progress, ResumableEarlyStopping, SaveProgress, load_state, save_state


def small_model() -> keras.Model:
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dropout(0.5), keras.layers.Dense(1)]
    )
    model.compile(optimizer="adam", loss="mse")
    return model


def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.random((32, 4), dtype=np.float32), rng.random((32, 1), dtype=np.float32)


def test_dropout_and_optimiser_go_on(tmp_path: Path) -> None:
    x, y = data()
    straight = small_model()
    straight.fit(x, y, epochs=1, shuffle=False, verbose=0)
    save_state(tmp_path / "state.npz", straight, Progress(epochs_done=1))
    straight.fit(x, y, epochs=1, shuffle=False, verbose=0)

    resumed = small_model()
    assert load_state(tmp_path / "state.npz", resumed).epochs_done == 1
    resumed.fit(x, y, epochs=1, shuffle=False, verbose=0)
    for one, other in zip(straight.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not (tmp_path / "state.npz.part").exists()


def test_early_stopping_takes_up_its_counter_and_its_best() -> None:
    progress = Progress(epochs_done=4, best_val_loss=0.25, epochs_without_gain=1)
    stopping = ResumableEarlyStopping(progress, patience=2)
    model = small_model()
    stopping.set_model(model)
    model.stop_training = False
    stopping.on_train_begin()
    stopping.on_epoch_end(
        4, {"val_loss": 0.3}
    )  # better than nothing, worse than the best of before: the second in a row
    assert model.stop_training


def test_progress_is_written_after_each_epoch(tmp_path: Path) -> None:
    x, y = data()
    progress = Progress()
    model = small_model()
    stopping = ResumableEarlyStopping(progress, patience=9)
    save = SaveProgress(progress, stopping, tmp_path / "state.npz")
    model.fit(x, y, epochs=3, validation_data=(x, y), callbacks=[stopping, save], verbose=0)
    read = load_state(tmp_path / "state.npz", small_model())
    assert read == progress
    assert [row["epoch"] for row in read.history] == [1, 2, 3]
    assert read.best_val_loss == min(row["val_loss"] for row in read.history)
