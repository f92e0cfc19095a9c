"""What a training reports to its caller, and how the caller stops it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager


class Reporter:
    """Follows a training. This one keeps silent and never stops it; the command line has one that prints."""

    def say(self, sentence: str) -> None:
        """Receive a sentence for the user."""

    @contextmanager
    def checking(self, total: int) -> Iterator[Callable[[], None]]:  # noqa: ARG002
        """Surround the inspection of the masks of `total` images; yield what is called after each image."""
        yield lambda: None

    @contextmanager
    def loading(self, total: int) -> Iterator[Callable[[], None]]:  # noqa: ARG002
        """Surround the reading of `total` images; yield what the training calls after each image."""
        yield lambda: None

    @contextmanager
    def fitting(self) -> Iterator[Callable[[], bool]]:
        """Surround the epochs; yield what the training asks after each batch: whether to stop."""
        yield lambda: False

    def epoch(self, row: Mapping[str, float]) -> None:
        """Receive the row of the history of each complete epoch; an exception ends the training."""
