"""What a killed training needs in order to go on as if nothing had happened.

Keras's own `BackupAndRestore` leaves out the dropout generators and the best values of EarlyStopping and
ModelCheckpoint; here everything that an epoch depends on goes into one file, which is renamed into place.
"""

from __future__ import annotations

import json
import os
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import keras
import numpy as np

from nuclei_train.errors import RunFolderError


@dataclass
class Progress:
    """How far a training is.

    Attributes
    ----------
    epochs_done : int
    history : list of dict
        One row an epoch: epoch (from 1), the metrics, seconds.
    best_val_loss : float or None
    epochs_without_gain : int
        EarlyStopping's counter.
    """

    epochs_done: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    best_val_loss: float | None = None
    epochs_without_gain: int = 0


class ResumableEarlyStopping(keras.callbacks.EarlyStopping):  # type: ignore[misc]
    """EarlyStopping that starts from the counter and the best of an earlier process."""

    def __init__(self, progress: Progress, *, patience: int) -> None:
        super().__init__(monitor="val_loss", mode="min", patience=patience)
        self._progress = progress

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Take up the best and the counter."""
        super().on_train_begin(logs)
        if self._progress.best_val_loss is not None:
            self.best = self._progress.best_val_loss
            self.wait = self._progress.epochs_without_gain


class SaveProgress(keras.callbacks.Callback):  # type: ignore[misc]
    """Keep the whole state of the training after each epoch.

    It must stand behind ModelCheckpoint and EarlyStopping in the list of callbacks: whatever kills the process
    between them and here makes the epoch run again, with the same result.
    """

    def __init__(self, progress: Progress, early_stopping: ResumableEarlyStopping, path: Path) -> None:
        super().__init__()
        self._progress, self._early_stopping, self._path = progress, early_stopping, path
        self._started = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Start the epoch's clock."""
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Write the state."""
        seconds = round(time.perf_counter() - self._started, 2)
        metrics = {name: float(value) for name, value in (logs or {}).items()}
        self._progress.history.append({"epoch": epoch + 1, **metrics, "seconds": seconds})
        self._progress.epochs_done = epoch + 1
        self._progress.best_val_loss = float(self._early_stopping.best)
        self._progress.epochs_without_gain = int(self._early_stopping.wait)
        save_state(self._path, self.model, self._progress)


def save_state(path: Path, model: keras.Model, progress: Progress) -> None:
    """Write all variables of the model (dropout's generators among them) and of its optimiser, and the progress."""
    arrays: dict[str, Any] = {
        f"{index:04d}": keras.ops.convert_to_numpy(variable) for index, variable in enumerate(_variables(model))
    }
    arrays["progress"] = np.frombuffer(json.dumps(vars(progress)).encode(), dtype=np.uint8)
    temporary = path.with_name(path.name + ".part")
    with temporary.open("wb") as file:
        np.savez(file, **arrays)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def load_state(path: Path, model: keras.Model) -> Progress:
    """Put the variables back into a compiled model and return the progress.

    Raises
    ------
    RunFolderError
        The file is damaged, or it is the state of another network or from another version of Keras.
    """
    model.optimizer.build(model.trainable_variables)
    try:
        with np.load(path, allow_pickle=False) as state:
            progress = Progress(**json.loads(state["progress"].tobytes()))
            for index, variable in enumerate(_variables(model)):
                variable.assign(state[f"{index:04d}"])
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile, zlib.error) as error:
        raise RunFolderError(
            f"{path}: not a state that this training can go on from ({error}); train again in a new folder"
        ) from error
    return progress


def _variables(model: keras.Model) -> list[Any]:
    return [*model.variables, *model.optimizer.variables]
