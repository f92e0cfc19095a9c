"""Callbacks and the state file that let a killed training resume as if nothing had happened.

Keras's own `BackupAndRestore` omits the dropout generators and the best values of EarlyStopping and ModelCheckpoint.
Here everything that an epoch depends on is in one file, which is renamed into place.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

from nuclei_train.fitting.progress import PROGRESS_ENTRY, STATE_ERRORS, Progress, decode_progress, unusable_state


class ResumableEarlyStopping(keras.callbacks.EarlyStopping):  # type: ignore[misc]
    """EarlyStopping that continues with the counter and the best value of an earlier process."""

    def __init__(self, progress: Progress, *, patience: int) -> None:
        super().__init__(monitor="val_loss", mode="min", patience=patience)
        self._progress = progress

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Restore the best value and the counter."""
        super().on_train_begin(logs)
        if self._progress.best_val_loss is not None:
            self.best = self._progress.best_val_loss
            self.wait = self._progress.epochs_without_gain


class SaveProgress(keras.callbacks.Callback):  # type: ignore[misc]
    """Save the complete state of the training after each epoch.

    It must follow ModelCheckpoint and EarlyStopping in the list of callbacks: if the process is killed between them and
    this one, the epoch runs again with the same result.
    """

    def __init__(self, progress: Progress, early_stopping: ResumableEarlyStopping, path: Path) -> None:
        super().__init__()
        self._progress, self._early_stopping, self._path = progress, early_stopping, path
        self._started = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Start timing the epoch."""
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Save the state."""
        seconds = round(time.perf_counter() - self._started, 2)
        metrics = {name: float(value) for name, value in (logs or {}).items()}
        self._progress.history.append({"epoch": epoch + 1, **metrics, "seconds": seconds})
        self._progress.epochs_done = epoch + 1
        self._progress.best_val_loss = float(self._early_stopping.best)
        self._progress.epochs_without_gain = int(self._early_stopping.wait)
        save_state(self._path, self.model, self._progress)


def save_state(path: Path, model: keras.Model, progress: Progress) -> None:
    """Save all variables of the model, including dropout generators, and of its optimiser, and the progress."""
    arrays: dict[str, Any] = {
        f"{index:04d}": keras.ops.convert_to_numpy(variable) for index, variable in enumerate(_variables(model))
    }
    arrays[PROGRESS_ENTRY] = progress.encode()
    temporary = path.with_name(path.name + ".part")
    with temporary.open("wb") as file:
        np.savez(file, **arrays)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def load_state(path: Path, model: keras.Model) -> Progress:
    """Restore the variables of a compiled model and return the progress.

    Raises
    ------
    RunFolderError
        The file is damaged, or it belongs to another network or another version of Keras.
    """
    model.optimizer.build(model.trainable_variables)
    try:
        with np.load(path, allow_pickle=False) as state:
            progress = decode_progress(state[PROGRESS_ENTRY])
            for index, variable in enumerate(_variables(model)):
                variable.assign(state[f"{index:04d}"])
    except STATE_ERRORS as error:
        raise unusable_state(path, error) from error
    return progress


def _variables(model: keras.Model) -> list[Any]:
    return [*model.variables, *model.optimizer.variables]
