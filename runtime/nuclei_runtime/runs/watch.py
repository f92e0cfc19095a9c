"""Watches a folder in which images appear, for days, and segments each once it is complete.

Events of the system (watchfiles) say when to look; a look at the whole folder says what is new. Events that are lost,
or that a network share does not send, delay an image by `LOOK_S` at most. The records in the results folder say what
is done; memory grows slightly with each image.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from threading import Event

from nuclei_runtime.errors import InputsError, MissingExtraError, RuntimeEnvironmentError
from nuclei_runtime.runs.config import RunConfig
from nuclei_runtime.runs.image_file import FileOutcome, process_file
from nuclei_runtime.runs.inputs import ImageFile, find_images
from nuclei_runtime.runs.run import load_worker, open_results

DEFAULT_SETTLE_S = 3.0
"""A file that has not changed for this long is complete. Network shares report a change up to three seconds late
(``acregmin`` in nfs(5))."""

GIVE_UP_SETTLES = 10
"""A file that cannot be read is tried again until it has not changed for this many settling times."""

LOOK_S = 10.0
"""Seconds after which to look at the folder even without an event."""

JOIN_AFTER_S = 30.0
"""Seconds without a new result after which the tables are joined. They are also joined at the end."""

_REST_PER_LOOK = 9
"""Pause after a look at the folder, as a multiple of its duration: looking takes at most a tenth of the time."""


@dataclass
class _Arrival:
    """A file that is not finished yet.

    Attributes
    ----------
    file : ImageFile
    state : tuple of int
        Size in bytes and time of the last change in ns.
    since : float
        When it was first seen in this state, in seconds of `time.monotonic`.
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
    """Distinguishes complete files from those that are still being written.

    Attributes
    ----------
    settle_s : float
    rest_s : float
        How long to wait before the next look.
    waiting : dict
        Files that are not finished, by name.
    """

    settle_s: float
    rest_s: float = 0.0
    waiting: dict[str, _Arrival] = field(default_factory=dict)
    _done: set[int] = field(default_factory=set)

    def look(self, config: RunConfig) -> list[str]:
        """Note what is in the folders, and return one sentence on each problem."""
        now = time.monotonic()
        inputs = find_images(config.sources, out=config.out, may_be_none=True, choice=config.plate_choice)
        before, self.waiting = self.waiting, {}
        for file in inputs.files:
            state = _state_of(file)
            if state is None or _key(file, state) in self._done:
                continue
            arrival = before.get(file.name)
            if arrival is None or (arrival.file, arrival.state) != (file, state):
                arrival = _Arrival(file, state, now, now + self.settle_s)
            self.waiting[file.name] = arrival
        no_more = before.keys() - self.waiting.keys()
        gone = no_more - {file.name for file in inputs.files} if no_more else no_more
        self.rest_s = min(_REST_PER_LOOK * (time.monotonic() - now), LOOK_S)
        return [*inputs.unreadable, *(f"{name}: was removed before it could be read" for name in sorted(gone))]

    def complete(self) -> list[_Arrival]:
        """Return the files to try now, in their order."""
        now = time.monotonic()
        return [arrival for arrival in self.waiting.values() if now >= arrival.try_at]

    def is_last_try(self, arrival: _Arrival) -> bool:
        """Whether the file has had enough time to become readable, and was tried within it."""
        return arrival.is_tried and time.monotonic() - arrival.since >= GIVE_UP_SETTLES * self.settle_s

    def retry_later(self, arrival: _Arrival) -> None:
        """Try again after twice the time, at the latest when the time of the file is over."""
        age = time.monotonic() - arrival.since
        arrival.is_tried = True
        arrival.try_at = arrival.since + min(2 * age, GIVE_UP_SETTLES * self.settle_s)

    def done(self, arrival: _Arrival) -> None:
        """Note that the file is finished, unless it changes again."""
        del self.waiting[arrival.file.name]
        self._done.add(_key(arrival.file, arrival.state))


def watch(config: RunConfig, stop: Event, *, settle_s: float = DEFAULT_SETTLE_S) -> Iterator[FileOutcome | str]:
    """Segment what is in a folder and what appears in it, until asked to stop; the current image is finished first.

    Parameters
    ----------
    config : RunConfig
        With folders as sources. An earlier run is continued, as with mode ``resume``.
    stop : Event
    settle_s : float
        Seconds without a change after which a file is complete.

    Yields
    ------
    FileOutcome or str
        The outcome of an image file; or a sentence on a problem.

    Raises
    ------
    InputsError
        A source is not a folder.
    MissingExtraError
        watchfiles is not installed.
    RuntimeEnvironmentError
        The results cannot be written, or a folder has vanished. What was written before is kept.
    """
    if find_spec("watchfiles") is None:
        raise MissingExtraError("watchfiles", "watch")
    folders = [Path(source) for source in config.sources]
    for folder in folders:
        if not folder.is_dir():
            raise InputsError(f"{folder}: not a folder; --watch takes folders")
    worker = load_worker(config)
    root = find_images(folders, out=config.out, may_be_none=True).root
    results, changes = open_results(replace(config, mode="resume"), worker, root)
    arrivals = _Arrivals(settle_s)
    reported: set[str] = set()
    joined, last_result = False, time.monotonic()  # an earlier watch may have ended before it joined the tables
    try:
        yield from () if changes is None else (changes,)
        for _ in _looks(folders, arrivals, stop):
            for folder in folders:
                if not folder.is_dir():
                    raise RuntimeEnvironmentError(
                        f"{folder}: the watched folder has vanished; check its drive or network share, and start "
                        "the watch again; results written so far are kept"
                    )
            notes = arrivals.look(config)
            yield from (note for note in notes if note not in reported)
            reported = set(notes)
            for arrival in arrivals.complete():
                if stop.is_set():
                    break
                # The files before may have taken long. What has changed or gone since is left to the next look.
                if _state_of(arrival.file) != arrival.state:
                    continue
                last_try = arrivals.is_last_try(arrival)
                outcome = process_file(arrival.file, worker, results.store, record_failure=last_try)
                if not outcome.is_ok and not last_try:
                    arrivals.retry_later(arrival)
                    continue
                arrivals.done(arrival)
                if outcome.changed or not outcome.is_kept:
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
    """Yield when it is time to look at the folders."""
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
    except (OSError, RuntimeError) as error:  # RuntimeError comes from watchfiles
        raise RuntimeEnvironmentError(
            f"{', '.join(map(str, folders))}: cannot be watched: {error}; "
            "if the system sends no events, set WATCHFILES_FORCE_POLLING=1"
        ) from error


def _state_of(file: ImageFile) -> tuple[int, int] | None:
    try:
        # An image of several files has the size of all of them and the time of the newest. Of a field of a plate, some
        # may not have been taken yet.
        parts = [part for part in file.parts if file.field is None or part.exists()]
        stats = [inner.stat() for part in parts for inner in (part, *(part.rglob("*") if part.is_dir() else ()))]
    except OSError:  # it is being removed
        return None
    return sum(stat.st_size for stat in stats), max((stat.st_mtime_ns for stat in stats), default=0)


def _key(file: ImageFile, state: tuple[int, int]) -> int:
    """Return a number for a file in a state. Among a million, two are equal with a probability of 1 in 30 million."""
    return hash((file.name, file.stem, *state))
