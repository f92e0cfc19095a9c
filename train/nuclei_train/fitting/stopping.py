"""A training that stops between two batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras


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
