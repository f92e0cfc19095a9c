"""A training that stops between two batches: because the user asked it to, or because it has diverged."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras

from nuclei_train.errors import DivergedError


class StopBetweenBatches(keras.callbacks.Callback):  # type: ignore[misc]
    """Raises KeyboardInterrupt after a batch if the user asked to stop.

    An interrupt in the middle of a batch would surface in whatever Python code the framework happens to be calling
    back into, where it is lost or becomes a SystemError.

    Parameters
    ----------
    stop_requested : callable
        Returns whether the user asked to stop.
    """

    def __init__(self, stop_requested: Callable[[], bool]) -> None:
        super().__init__()
        self._stop_requested = stop_requested

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Stop after a batch of training."""
        self._stop_if_requested()

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Stop after a batch of validation."""
        self._stop_if_requested()

    def _stop_if_requested(self) -> None:
        if self._stop_requested():
            raise KeyboardInterrupt


class EndIfDiverged(keras.callbacks.Callback):  # type: ignore[misc]
    """Raises a DivergedError after a batch or an epoch whose loss is infinite or not a number.

    It must come before ModelCheckpoint in the list of callbacks, which would keep a first epoch whatever its loss.

    Parameters
    ----------
    learning_rate : float
        The recipe's, for the message.
    """

    def __init__(self, learning_rate: float) -> None:
        super().__init__()
        self._learning_rate = learning_rate

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Look at the mean training loss of the epoch so far."""
        self._check("training", logs["loss"])

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Look at the validation loss, if there is one."""
        self._check("validation", logs.get("val_loss", 0.0))

    def _check(self, which: str, loss: float) -> None:
        if not math.isfinite(loss):
            raise DivergedError(
                f"the training has diverged: its {which} loss is {loss}, expected a number; train again in a new "
                f"folder with a --learning-rate below {self._learning_rate:g}"
            )
