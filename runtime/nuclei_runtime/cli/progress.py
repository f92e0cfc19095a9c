"""What a command prints while it works: a progress bar, one line per failure, and the totals."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Protocol

from nuclei_runtime.cli.command import printable

if TYPE_CHECKING:
    from nuclei_runtime.runs.image_file import FileOutcome


class UpdateProgress(Protocol):
    """Moves a progress bar."""

    def __call__(self, done: int, total: int | None = None) -> None:
        """Show that `done` items are finished, out of `total` if it is given."""


@contextmanager
def progress_bar(description: str, total: int | None = None) -> Iterator[UpdateProgress]:
    """Show a progress bar on standard error while a ``with`` statement runs, if standard error is a terminal.

    Standard output is left alone: it may be a pipe that expects JSON.

    Parameters
    ----------
    description : str
        What is counted.
    total : int, optional
        How many there are; None if only a later update gives it.

    Yields
    ------
    UpdateProgress
    """
    if not sys.stderr.isatty():
        yield _show_nothing
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True, redirect_stdout=False) as progress:
        task = progress.add_task(description, total=total)

        def update(done: int, total: int | None = None) -> None:
            progress.update(task, completed=done, total=total)  # a total of None leaves the total as it is

        yield update


def _show_nothing(done: int, total: int | None = None) -> None:  # the names are UpdateProgress's
    pass


class OutcomeReporter:
    """Prints the outcome of each file, and counts.

    Parameters
    ----------
    as_json : bool
        Print one JSON object per plane on standard output.

    Attributes
    ----------
    n_files, n_failed, n_kept, n_nuclei : int
        Files reported; those with a failed plane; those whose earlier results were kept; nuclei in all of them.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.n_files = self.n_failed = self.n_kept = self.n_nuclei = 0
        self._as_json = as_json

    def report(self, outcome: FileOutcome) -> None:
        """Print the outcome of a file."""
        self.n_files += 1
        self.n_failed += not outcome.is_ok
        self.n_kept += outcome.is_kept
        if outcome.redone is not None:
            print_stderr(f"segmented again: {outcome.planes[0].image}: {outcome.redone}")
        for plane in outcome.planes:
            self.n_nuclei += plane.n_nuclei or 0
            if self._as_json:
                print(json.dumps(asdict(plane)), flush=True)
            if plane.status == "failed":
                where = {"scene": plane.scene, "time": plane.time, "z": plane.z}
                indices = "".join(f", {axis} {at}" for axis, at in where.items() if at is not None)
                print_stderr(f"failed: {plane.image}{indices}: {plane.reason}")

    def summary(self, n_files: int, n_skipped: int, n_unreadable: int) -> str:
        """Return the totals of a run over `n_files` images that skipped `n_skipped` other files.

        `n_unreadable` folders could not be listed: nobody knows how many images they hold.
        """
        kept = f" ({self.n_kept} done before)" if self.n_kept else ""
        unreadable = f"; folders that could not be listed: {n_unreadable}" if n_unreadable else ""
        return (
            f"{self.n_files - self.n_failed} of {n_files} images{kept}, {self.n_nuclei} nuclei, "
            f"{self.n_failed} failed; other files skipped: {n_skipped}{unreadable}"
        )


def print_stderr(sentence: str) -> None:
    """Print a line on standard error."""
    print(printable(sentence), file=sys.stderr, flush=True)
