"""What a command prints while it works: a progress bar, one line per failure, and the totals."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import Enum
from typing import TYPE_CHECKING

from nuclei_runtime.cli.command import printable
from nuclei_runtime.wording import counted

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from nuclei_runtime.results.outcome import PlaneOutcome
    from nuclei_runtime.runs.image_file import FileOutcome


SECONDS_PER_LINE = 60.0
"""How often, at most, a line says how far an image is, where there is no terminal."""


class ProgressBar:
    """What is done, without a terminal to show it on: now and then a line about an image that takes long.

    One is made by `progress_bar`.
    """

    def __init__(self) -> None:
        self._begun: dict[str, _Begun] = {}

    def __call__(self, done: int, total: int | None = None) -> None:
        """Show that `done` items are finished, out of `total` if it is given."""

    def report_blocks(self, image: str, done: int, total: int) -> None:
        """Show how many blocks of an image are done; the first time, how many an earlier run had done."""
        now = time.monotonic()
        begun = self._begun.get(image)
        if begun is None or done < begun.shown:
            self._begun[image] = _Begun(done, now, done, now)
            if done:
                print_stderr(f"continued: {image}: {done} of {total} blocks were already done")
        elif done == total:
            del self._begun[image]
        elif done > begun.done and now - begun.shown_at >= SECONDS_PER_LINE:
            begun.shown, begun.shown_at = done, now
            left_s = (now - begun.at) / (done - begun.done) * (total - done)
            print_stderr(f"{image}: {done} of {total} blocks, about {format_duration(left_s)} left")


@dataclass
class _Begun:
    """An image in blocks: what was done when, at its begin and when it was last shown."""

    done: int
    at: float
    shown: int
    shown_at: float


class _TerminalBar(ProgressBar):
    def __init__(self, progress: Progress, task: TaskID) -> None:
        super().__init__()
        self._progress, self._task = progress, task
        self._of_image: dict[str, TaskID] = {}

    def __call__(self, done: int, total: int | None = None) -> None:
        self._progress.update(self._task, completed=done, total=total)  # a total of None leaves the total as it is

    def report_blocks(self, image: str, done: int, total: int) -> None:
        if image not in self._of_image:
            if done:
                print_stderr(f"continued: {image}: {done} of {total} blocks were already done")
            self._of_image[image] = self._progress.add_task(f"{printable(image)}, blocks")
        self._progress.update(self._of_image[image], completed=done, total=total)
        if done == total:
            self._progress.remove_task(self._of_image.pop(image))


@contextmanager
def progress_bar(description: str, total: int | None = None) -> Iterator[ProgressBar]:
    """Show a progress bar on standard error while a ``with`` statement runs, if standard error is a terminal.

    Standard output is left alone: it may be a pipe that expects JSON.

    Parameters
    ----------
    description : str
        What is counted.
    total : int, optional
        How many there are; None if only a later update gives it.
    """
    if not sys.stderr.isatty():
        yield ProgressBar()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as progress:
        yield _TerminalBar(progress, progress.add_task(description, total=total))


def format_duration(seconds: float) -> str:
    """Return a duration as a person says it: seconds, minutes, or hours and minutes."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


class OutcomeReporter:
    """Prints the outcome of each file, and counts.

    Parameters
    ----------
    as_json : bool
        Print one JSON object per plane on standard output.
    done : str
        What is done to an image.

    Attributes
    ----------
    n_files, n_failed, n_in_part : int
        Files reported; those of which nothing was segmented; those of which some planes failed, but not all.
    n_kept, n_flagged : int
        Files whose earlier results were kept; those with a plane whose result may not be trusted.
    n_changed : int
        Files of which somebody has changed a result; they were left as they are.
    n_nuclei, n_touching_border, n_left_out : int
        Nuclei in all planes, those of them that touch an edge, and those that were found and left out.
    """

    def __init__(self, *, as_json: bool, done: str = "segmented") -> None:
        self._done = done
        self.n_files = self.n_failed = self.n_in_part = self.n_kept = self.n_flagged = self.n_changed = 0
        self.n_nuclei = self.n_touching_border = self.n_left_out = 0
        self._found = {kind: _Found() for kind in _Kind}
        self._changes = dict.fromkeys(("added", "removed", "split", "merged", "redrawn", "unchanged"), 0)
        self._flags: Counter[str] = Counter()
        self._as_json = as_json

    @property
    def n_segmented(self) -> int:
        """Files of which at least one plane was segmented."""
        return self.n_files - self.n_failed

    @property
    def changes(self) -> str:
        """What a person changed in all labels: ``3 added, 1 removed, 200 unchanged``; empty if it is not known."""
        return ", ".join(f"{n} {how}" for how, n in self._changes.items() if n)

    def report(self, outcome: FileOutcome) -> None:
        """Print the outcome of a file."""
        self.n_files += 1
        has_failed = all(plane.status == "failed" for plane in outcome.planes)
        self.n_failed += has_failed
        self.n_in_part += not (outcome.is_ok or has_failed)
        self.n_kept += outcome.is_kept
        flags = {flag for plane in outcome.planes if plane.flags for flag in plane.flags.split(";")}
        self.n_flagged += bool(flags)
        self._flags.update(flags)
        if outcome.changed:
            self.n_changed += 1
            were = "was" if len(outcome.changed) == 1 else "were"
            print_stderr(f"kept: {outcome.planes[0].image}: {', '.join(outcome.changed)} {were} changed after the run")
        if outcome.redone is not None:
            print_stderr(f"{self._done} again: {outcome.planes[0].image}: {outcome.redone}")
        is_shared = len({plane.note for plane in outcome.planes}) == 1
        for plane in outcome.planes:
            for how in self._changes:
                self._changes[how] += getattr(plane, f"n_{how}") or 0
            if plane.note is not None and (plane is outcome.planes[0] or not is_shared):
                print_stderr(f"note: {plane.image}{'' if is_shared else _indices(plane)}: {plane.note}")
            if plane.n_nuclei is not None:
                kind = _Kind.IMAGE if plane.time is None else _Kind.FRAME
                found = self._found[kind if plane.z is None else _Kind.DEPTH]
                found.n_planes, found.n_nuclei = found.n_planes + 1, found.n_nuclei + plane.n_nuclei
                self.n_nuclei += plane.n_nuclei
                self.n_touching_border += plane.n_touching_border or 0
                self.n_left_out += plane.n_left_out or 0
            if self._as_json:
                print(json.dumps(asdict(plane)), flush=True)
            if plane.status == "failed":
                print_stderr(f"failed: {plane.image}{_indices(plane)}: {plane.reason}")

    def flagged(self) -> Iterator[str]:
        """Yield the lines that say how many images are flagged, and for each flag why and what to do."""
        from nuclei_runtime.steps.flags import Flag

        if not self.n_flagged:
            return
        is_or_are = "is" if self.n_flagged == 1 else "are"
        of_files = counted(self.n_segmented, "segmented image")
        yield f"{self.n_flagged} of {of_files} {is_or_are} flagged; the column flags of images.csv says which:"
        for flag in Flag:
            if self._flags[flag]:
                yield f"  {flag} ({counted(self._flags[flag], 'image')}): {flag.reason}; {flag.advice}"

    def summary(self, n_files: int, n_skipped: int, n_unreadable: int) -> str:
        """Return the totals of a run over `n_files` images that skipped `n_skipped` other files.

        `n_unreadable` folders and plates could not be listed: nobody knows how many images they hold.
        """
        complete = " complete" if self.n_in_part else ""
        kept = f" ({self.n_kept} done before)" if self.n_kept else ""
        in_part = f", {self.n_in_part} {self._done} in part" if self.n_in_part else ""
        unreadable = f"; folders and plates that could not be listed: {n_unreadable}" if n_unreadable else ""
        return (
            f"{self.n_segmented - self.n_in_part} of {counted(n_files, 'image')}{complete}{kept}{in_part}, "
            f"{self._counts()}, {self.n_failed} failed; other files skipped: {n_skipped}{unreadable}"
        )

    def _counts(self) -> str:
        """Return how many nuclei there are. In a stack, one nucleus is found in several planes: these are sections."""
        image, frame, depth = (self._found[kind] for kind in _Kind)
        parts = []
        if image.n_planes or not (frame.n_planes or depth.n_planes):
            parts.append(counted(image.n_nuclei, "nucleus", "nuclei"))
        if frame.n_planes:
            parts.append(
                f"{counted(frame.n_nuclei, 'nucleus', 'nuclei')} in {counted(frame.n_planes, 'frame')} of time series"
            )
        if depth.n_planes:
            parts.append(
                f"{counted(depth.n_nuclei, 'section')} of nuclei in {counted(depth.n_planes, 'plane')} of Z stacks"
            )
        return ", ".join(parts)


def _indices(plane: PlaneOutcome) -> str:
    where = {"scene": plane.scene, "time": plane.time, "z": plane.z}
    return "".join(f", {axis} {at}" for axis, at in where.items() if at is not None)


class _Kind(Enum):
    """What a plane is: an image of its own, a frame of a time series, or one of several depths."""

    IMAGE, FRAME, DEPTH = range(3)


@dataclass
class _Found:
    n_planes: int = 0
    n_nuclei: int = 0


def print_stderr(sentence: str) -> None:
    """Print a line on standard error."""
    print(printable(sentence), file=sys.stderr, flush=True)
