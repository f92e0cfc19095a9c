"""How far a training has come, as kept in the run folder after each epoch."""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from nuclei_train.errors import RunFolderError

PROGRESS_ENTRY = "progress"
"""The array in the state file that holds the progress, as JSON in bytes."""

STATE_ERRORS = (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile, zlib.error)
"""What reading a state file raises if the file is damaged or belongs to something else."""

MAX_REASON_CHARACTERS = 150


@dataclass
class Progress:
    """How far a training has come.

    Attributes
    ----------
    epochs_done : int
    history : list of dict
        One row per epoch: epoch (from 1), the metrics, seconds.
    best_val_loss : float or None
    epochs_without_gain : int
        EarlyStopping's counter.
    """

    epochs_done: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    best_val_loss: float | None = None
    epochs_without_gain: int = 0

    def encode(self) -> NDArray[np.uint8]:
        """Return the array `PROGRESS_ENTRY` of a state file."""
        return np.frombuffer(json.dumps(asdict(self)).encode(), dtype=np.uint8)


def decode_progress(stored: NDArray[Any]) -> Progress:
    """Return the progress that `Progress.encode` stored, or raise one of `STATE_ERRORS`."""
    return Progress(**json.loads(stored.tobytes()))


def read_progress(path: Path) -> Progress:
    """Read the progress from a state file; without a file no epoch is done.

    Raises
    ------
    RunFolderError
        The file is damaged.
    """
    if not path.is_file():
        return Progress()
    try:
        with np.load(path, allow_pickle=False) as state:
            return decode_progress(state[PROGRESS_ENTRY])
    except STATE_ERRORS as error:
        raise unusable_state(path, error) from error


def unusable_state(path: Path, error: Exception) -> RunFolderError:
    """Return the error to raise for a state file from which a training cannot be resumed."""
    reason = str(error).partition("\n")[0][:MAX_REASON_CHARACTERS]  # Keras appends the values of all weights
    return RunFolderError(f"{path}: this training cannot be resumed from it ({reason}); train again in a new folder")
