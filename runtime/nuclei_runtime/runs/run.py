"""One run over images: what was asked for -> model, results folder, the outcome of each file, the joined tables."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from nuclei_runtime.errors import RuntimeEnvironmentError
from nuclei_runtime.readers.plane import Selection
from nuclei_runtime.resources import cpu_count
from nuclei_runtime.results.folder import Mode, ResultsFolder
from nuclei_runtime.results.layout import token_of
from nuclei_runtime.results.provenance import describe_method, provenance_json, run_key
from nuclei_runtime.results.shard import WHOLE, Shard
from nuclei_runtime.runs.image_file import FileOutcome, Method, process_file
from nuclei_runtime.runs.inputs import ImageFile, Inputs, find_images
from nuclei_runtime.segmentation.admission import Admission
from nuclei_runtime.segmentation.options import SegmenterOptions
from nuclei_runtime.segmentation.segmenter import Segmenter

FILES_AHEAD = 4
"""For each worker, how many files may be done or begun before the one whose outcome is next."""


@dataclass(frozen=True)
class RunConfig:
    """What was asked for.

    Attributes
    ----------
    sources : tuple of str
        Images, folders or globs.
    out : Path
        The results folder.
    options : SegmenterOptions
        Their threads are for the whole run. The results do not depend on them.
    max_memory : int, optional
        See `nuclei_runtime.segmentation.blocks.segment_plane`. The results do not depend on it.
    selection : Selection
    mode : Mode
    shard : Shard
    """

    sources: tuple[str, ...]
    out: Path
    options: SegmenterOptions = field(default_factory=SegmenterOptions)
    max_memory: int | None = None
    selection: Selection = field(default_factory=Selection)
    mode: Mode = "new"
    shard: Shard = WHOLE


@dataclass(frozen=True)
class LoadedMethod:
    """A method with its description.

    Attributes
    ----------
    method : Method
    description : dict
        See `nuclei_runtime.results.provenance.describe_method`.
    """

    method: Method
    description: dict[str, Any]


def load_method(config: RunConfig, n_workers: int = 1) -> LoadedMethod:
    """Load the model for so many files at once, which share out the threads.

    Raises
    ------
    ModelError, RuntimeEnvironmentError
        See `nuclei_runtime.model.session.load_session`.
    """
    threads = max(1, n_threads(config) // n_workers)
    segmenter = Segmenter.from_options(replace(config.options, threads=threads))
    description = describe_method(segmenter, config.selection)
    admission = Admission(n_workers, config.max_memory)
    method = Method(segmenter, config.selection, run_key(description), config.max_memory, admission)
    return LoadedMethod(method, description)


def n_threads(config: RunConfig) -> int:
    """Return how many threads a run may use."""
    return cpu_count() if config.options.threads is None else config.options.threads


def open_results(config: RunConfig, loaded: LoadedMethod) -> ResultsFolder:
    """Open the results folder and write into it what the run is made with."""
    results = ResultsFolder(config.out, config.mode, config.shard)
    try:
        results.write_provenance(provenance_json(loaded.description, n_threads(config)))
    except BaseException:
        results.close(is_last=False)
        raise
    return results


class FolderRun:
    """A run over the images that are there when it begins. To be used in a ``with`` statement.

    Parameters
    ----------
    config : RunConfig

    Attributes
    ----------
    inputs : Inputs
        All images, whatever the shard.
    n_files : int
        Image files of this shard.
    is_joined : bool
        Whether ``images.csv`` and ``nuclei.csv`` were written, after the ``with`` statement.

    Raises
    ------
    InputsError, ModelError, ResultsExistError, ResultsInUseError, RuntimeEnvironmentError
        See `find_images`, `load_method` and `ResultsFolder`.
    """

    def __init__(self, config: RunConfig) -> None:
        self.inputs: Inputs = find_images(config.sources, out=config.out)
        self._files = [file for file in self.inputs.files if config.shard.owns(token_of(file.name))]
        self.n_files = len(self._files)
        self.is_joined = False
        self._processed: list[ImageFile] = []
        # A file a thread, rather than one file with all threads: nobody waits for reading, labelling and writing.
        self._n_workers = max(1, min(n_threads(config), self.n_files))
        loaded = load_method(config, self._n_workers)
        self._method = loaded.method
        self._shard = config.shard
        self._results = open_results(config, loaded)

    @property
    def n_processed(self) -> int:
        """Files that are done with, for good or ill; with several workers that may be more than were yielded."""
        return len(self._processed)

    def __enter__(self) -> FolderRun:
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        """Join the tables of what is there, however the run ends; of several shares the last one does."""
        try:
            names = (file.name for file in self.inputs.files)
            self.is_joined = self._results.join(names, self._method.run_key, only_whole=self._shard != WHOLE)
        except RuntimeEnvironmentError:
            if error is None:
                raise
        finally:
            self._results.close(is_last=self.is_joined)

    def outcomes(self) -> Iterator[FileOutcome]:
        """Segment the files, and yield what became of each, in their order.

        Raises
        ------
        RuntimeEnvironmentError
            Results cannot be written, or the folder of the images has vanished. What was written before stays.
        """
        for outcome in self._in_turn() if self._n_workers == 1 else self._side_by_side():
            if not outcome.is_ok:
                _check_folder(self.inputs.root)
            yield outcome

    def _in_turn(self) -> Iterator[FileOutcome]:
        for file in self._files:
            yield self._process(file)

    def _process(self, file: ImageFile) -> FileOutcome:
        outcome = process_file(file, self._method, self._results)
        self._processed.append(file)
        return outcome

    def _side_by_side(self) -> Iterator[FileOutcome]:
        waiting: deque[Future[FileOutcome]] = deque()
        with ThreadPoolExecutor(self._n_workers) as pool:
            try:
                for file in self._files:
                    # No more than a few ahead, so that no one waits long for the outcome of a slow file.
                    if len(waiting) == FILES_AHEAD * self._n_workers:
                        yield waiting.popleft().result()
                    waiting.append(pool.submit(self._process, file))
                while waiting:
                    yield waiting.popleft().result()
            except BaseException:  # what is being done is not finished either, as in a run with one worker
                self._method.stop.set()
                raise
            finally:
                for future in waiting:
                    future.cancel()


def _check_folder(root: Path) -> None:
    """Raise if the folder of the images is gone: each image that is still to come would fail."""
    with suppress(OSError), os.scandir(root) as entries:
        if next(entries, None) is not None:
            return
    raise RuntimeEnvironmentError(
        f"{root}: the folder of the images has vanished or was emptied during the run; is its drive or network share "
        "still there? What was done stays, and --resume goes on"
    )
