"""A folder in which images appear, for days: each is segmented once it is complete.

The system's events say when to look (watchfiles), and a look at the whole folder says what is new. Events that a
network share does not send, or that get lost, cost `LOOK_S` at most. What is done is told by the records in the
results folder; in memory there are, for each image that was seen, about a hundred bytes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from threading import Event

from nuclei_runtime.errors import InputsError, MissingExtraError, RuntimeEnvironmentError
from nuclei_runtime.runs.image_file import FileOutcome, process_file
from nuclei_runtime.runs.inputs import ImageFile, find_images
from nuclei_runtime.runs.run import RunConfig, load_worker, open_results

DEFAULT_SETTLE_S = 3.0
"""A file that has not changed for so long is complete: network shares tell of a change up to three seconds late
(``acregmin`` of nfs(5))."""

GIVE_UP_SETTLES = 10
"""A file that cannot be read is tried again until it has not changed for so many times the settling time."""

LOOK_S = 10.0
"""Seconds after which the folder is looked at though no event came."""

JOIN_AFTER_S = 30.0
"""Seconds without a new result after which the tables are joined. They are also joined in the end."""

_REST_PER_LOOK = 9
"""Rest after a look at the folder, in times of its length: of a huge folder, looking takes a tenth of the time."""


@dataclass
class _Arrival:
    """A file that is not done yet.

    Attributes
    ----------
    file : ImageFile
    state : tuple of int
        Size in bytes and time of the last change in ns.
    since : float
        When it was first seen in this state; seconds of a clock of no date.
    try_at : float
    is_tried : bool
        Whether it has been tried in this state.
    """

    file: ImageFile
    state: tuple[int, int]
    since: float
    try_at: float
    is_tried: bool = False


@dataclass
class _Arrivals:
    """Tells files that are complete from those that are still being written.

    Attributes
    ----------
    settle_s : float
    rest_s : float
        How long the next look should wait.
    waiting : dict
        Files that are not done, by name.
    """

    settle_s: float
    rest_s: float = 0.0
    waiting: dict[str, _Arrival] = field(default_factory=dict)
    _done: set[int] = field(default_factory=set)

    def look(self, config: RunConfig) -> list[str]:
        """Take note of what is in the folders, and return a sentence on each thing that is odd."""
        now = time.monotonic()
        inputs = find_images(config.sources, out=config.out, may_be_none=True)
        before, self.waiting = self.waiting, {}
        for file in inputs.files:
            state = _state_of(file.path)
            if state is None or _key(file, state) in self._done:
                continue
            arrival = before.get(file.name)
            if arrival is None or (arrival.file, arrival.state) != (file, state):
                arrival = _Arrival(file, state, now, now + self.settle_s)
            self.waiting[file.name] = arrival
        no_more = before.keys() - self.waiting.keys()
        gone = no_more - {file.name for file in inputs.files} if no_more else no_more
        self.rest_s = min(_REST_PER_LOOK * (time.monotonic() - now), LOOK_S)
        return [*inputs.unreadable, *(f"{name}: is gone before it could be read" for name in sorted(gone))]

    def complete(self) -> list[_Arrival]:
        """Return the files that are to be tried now, in their order."""
        now = time.monotonic()
        return [arrival for arrival in self.waiting.values() if now >= arrival.try_at]

    def is_last_try(self, arrival: _Arrival) -> bool:
        """Whether the file has had its time to become readable, and was tried in it."""
        return arrival.is_tried and time.monotonic() - arrival.since >= GIVE_UP_SETTLES * self.settle_s

    def retry_later(self, arrival: _Arrival) -> None:
        """Try again after twice the time, at the latest when the file's time is over."""
        age = time.monotonic() - arrival.since
        arrival.is_tried = True
        arrival.try_at = arrival.since + min(2 * age, GIVE_UP_SETTLES * self.settle_s)

    def done(self, arrival: _Arrival) -> None:
        """Note that the file needs nothing more, unless it changed meanwhile."""
        del self.waiting[arrival.file.name]
        self._done.add(_key(arrival.file, arrival.state))


def watch(config: RunConfig, stop: Event, *, settle_s: float = DEFAULT_SETTLE_S) -> Iterator[FileOutcome | str]:
    """Segment what is in a folder and what appears in it, until told to stop; then the image in hand is finished.

    Parameters
    ----------
    config : RunConfig
        With folders as sources. What an earlier run left is gone on with, as with mode ``resume``.
    stop : Event
    settle_s : float
        Seconds without a change after which a file is complete.

    Yields
    ------
    FileOutcome or str
        What became of an image file; or a sentence on what is odd.

    Raises
    ------
    InputsError
        A source is no folder.
    MissingExtraError
        watchfiles is not installed.
    RuntimeEnvironmentError
        Results cannot be written, or a folder has vanished. What was written before stays.
    """
    if find_spec("watchfiles") is None:
        raise MissingExtraError("watchfiles", "watch")
    folders = [Path(source) for source in config.sources]
    for folder in folders:
        if not folder.is_dir():
            raise InputsError(f"{folder}: is no folder; --watch takes folders")
    worker = load_worker(config)
    results = open_results(replace(config, mode="resume"), worker)
    arrivals = _Arrivals(settle_s)
    told: set[str] = set()
    joined, last_result = False, time.monotonic()  # what ended an earlier watch may have left no tables
    try:
        for _ in _looks(folders, arrivals, stop):
            for folder in folders:
                if not folder.is_dir():
                    raise RuntimeEnvironmentError(
                        f"{folder}: the folder that is watched has vanished; is its drive or network share still "
                        "there? What was done stays"
                    )
            notes = arrivals.look(config)
            yield from (note for note in notes if note not in told)
            told = set(notes)
            for arrival in arrivals.complete():
                if stop.is_set():
                    break
                # Others may have taken long meanwhile: what has changed or gone since the look, the next look sees.
                if _state_of(arrival.file.path) != arrival.state:
                    continue
                last_try = arrivals.is_last_try(arrival)
                outcome = process_file(arrival.file, worker, results.store, record_failure=last_try)
                if not outcome.is_ok and not last_try:
                    arrivals.retry_later(arrival)
                    continue
                arrivals.done(arrival)
                if not outcome.is_kept:
                    joined, last_result = False, time.monotonic()
                    yield outcome
            if not joined and time.monotonic() - last_result > JOIN_AFTER_S:
                results.join((), worker.job.run_key)
                joined = True
        tables = results.join((), worker.job.run_key)
        yield from () if tables is None else tables.notes
    finally:
        results.close()


def _looks(folders: list[Path], arrivals: _Arrivals, stop: Event) -> Iterator[None]:
    """Yield when the folders are to be looked at."""
    import watchfiles

    timeout_s = max(arrivals.settle_s / 4, 0.05)
    try:
        events = watchfiles.watch(
            *folders,
            watch_filter=None,
            stop_event=stop,
            rust_timeout=round(1000 * timeout_s),
            yield_on_timeout=True,
        )
        looked = -LOOK_S
        for changes in events:
            now = time.monotonic()
            if stop.is_set():
                return
            if changes or arrivals.complete() or now - looked > LOOK_S:
                yield
                looked = time.monotonic()
                stop.wait(arrivals.rest_s)
    except (OSError, RuntimeError) as error:  # the latter from within watchfiles
        raise RuntimeEnvironmentError(
            f"{', '.join(map(str, folders))}: cannot be watched: {error}; "
            "set WATCHFILES_FORCE_POLLING=1 where the system gives no events"
        ) from error


def _state_of(path: Path) -> tuple[int, int] | None:
    try:
        # An image that is a folder is as large as its files and as new as the newest.
        parts = [path, *path.rglob("*")] if path.is_dir() else [path]
        stats = [part.stat() for part in parts]
    except OSError:  # it is gone, or about to be
        return None
    return sum(stat.st_size for stat in stats), max(stat.st_mtime_ns for stat in stats)


def _key(file: ImageFile, state: tuple[int, int]) -> int:
    """Return what stands for a file in a state: equal for two of a million with a probability of 1 in 30 million."""
    return hash((file.name, file.stem, *state))
