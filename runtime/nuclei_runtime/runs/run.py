"""One run over images: loads the model, opens the results folder, segments each file, joins the tables."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PurePath
from types import TracebackType

from nuclei_runtime.errors import RuntimeEnvironmentError
from nuclei_runtime.results.folder import ResultsFolder
from nuclei_runtime.results.joined_tables import Joined
from nuclei_runtime.results.layout import PROVENANCE_FILE, token_of
from nuclei_runtime.results.provenance import describe_method, provenance_json, read_earlier_methods, run_key
from nuclei_runtime.results.shard import WHOLE
from nuclei_runtime.results.writing import KEPT
from nuclei_runtime.runs.config import RunConfig, find_inputs, n_threads
from nuclei_runtime.runs.given import AnyWorker, GivenWorker
from nuclei_runtime.runs.image_file import FileOutcome, process_file
from nuclei_runtime.runs.inputs import ImageFile
from nuclei_runtime.runs.label_files import LabelSet
from nuclei_runtime.runs.same_view import common_view
from nuclei_runtime.runs.workers import Job, ReportBlocks, Worker, report_nothing
from nuclei_runtime.segmentation.admission import Admission
from nuclei_runtime.segmentation.segmenter import Segmenter

FILES_AHEAD = 4
"""For each file at a time, how many may be begun or finished ahead of the one whose outcome is next."""

_INTERRUPTIBLE_S = 0.5
"""How long to wait at a time: Windows delivers Ctrl-C only between waits."""


def load_worker(
    config: RunConfig, n_at_once: int = 1, labels: LabelSet | None = None, report: ReportBlocks = report_nothing
) -> AnyWorker:
    """Load the model for `n_at_once` files at a time, which share the threads; or none if the nuclei are given.

    Raises
    ------
    ModelError, RuntimeEnvironmentError
        See `nuclei_runtime.model.session.load_session`.
    """
    if labels is not None:
        job = Job(config.options, config.selection, config.outputs, "", config.max_memory)
        key = run_key(GivenWorker(job, labels).describe())
        return GivenWorker(replace(job, run_key=key), labels)
    options = replace(config.options, threads=max(1, n_threads(config) // n_at_once))
    segmenter = Segmenter.from_options(options)
    key = run_key(describe_method(segmenter, config.selection, config.outputs))
    job = Job(options, config.selection, config.outputs, key, config.max_memory)
    return Worker(job, segmenter, Admission(n_at_once, config.max_memory), report=report)


def with_same_view(config: RunConfig, files: Sequence[ImageFile]) -> RunConfig:
    """Return the configuration with the view that is chosen for all these files, if one is asked for.

    Raises
    ------
    ModelError, RuntimeEnvironmentError
        See `nuclei_runtime.model.session.load_session`.
    """
    if not config.same_view:
        return config
    with Segmenter.from_options(config.options) as segmenter:
        view = common_view(files, segmenter.network, config.selection, config.max_memory)
    options = replace(config.options, view=view, diameter_px=None, stain=None)
    return replace(config, options=options, same_view=False)


def open_results(config: RunConfig, worker: AnyWorker, root: Path) -> ResultsFolder:
    """Open the results folder and write the run's provenance into it.

    Parameters
    ----------
    config : RunConfig
    worker : Worker
    root : Path
        `Inputs.root`.

    Raises
    ------
    ResultsExistError, ResultsInUseError, RuntimeEnvironmentError
        See `ResultsFolder`.
    """
    results = ResultsFolder(config.out, config.mode, config.shard, config.tables, config.conditions)
    try:
        method = worker.describe()
        earlier = read_earlier_methods(config.out / PROVENANCE_FILE, worker.job.run_key)
        images_folder, tables = _seen_from(config.out, root), config.tables.describe()
        text = provenance_json(method, tables, n_threads(config), earlier, images_folder=images_folder)
        results.write_provenance(text)
    except BaseException:
        results.close(is_last=False)
        raise
    return results


def _seen_from(out: Path, root: Path) -> str:
    """Return the path from the results to the images: a folder that holds both can be moved."""
    try:
        return PurePath(os.path.relpath(root, out.resolve())).as_posix()
    except ValueError:  # on another drive of Windows
        return root.as_posix()


class FolderRun:
    """A run over the images that exist when it begins, as a context manager.

    Parameters
    ----------
    config : RunConfig
    report : ReportBlocks
        Is told how many blocks of a large image are done.

    Attributes
    ----------
    inputs : Inputs
        All images, of every shard.
    labels : LabelSet, optional
        If the nuclei are given.
    view : View, optional
        In which all images are shown, if it is fixed.
    files : tuple of ImageFile
        Those of this shard.
    worker : Worker
    store : ResultStore
    joined : Joined, optional
        After the ``with`` statement: what ``images.csv`` and ``nuclei.csv`` hold; None if they were not written.

    Raises
    ------
    InputsError, ModelError, ResultsExistError, ResultsInUseError, RuntimeEnvironmentError
        See `find_images`, `load_worker` and `ResultsFolder`.
    """

    def __init__(self, config: RunConfig, report: ReportBlocks = report_nothing) -> None:
        self.inputs, self.labels = find_inputs(config)
        config = with_same_view(config, self.inputs.files)
        self.view = config.options.view
        self.files = tuple(file for file in self.inputs.files if config.shard.owns(token_of(file.name)))
        self.joined: Joined | None = None
        self._processed: list[ImageFile] = []
        # One thread per file, not all threads on one file: no thread waits while another reads, labels or writes.
        self._n_at_once = max(1, min(n_threads(config), len(self.files)))
        self.worker = load_worker(config, self._n_at_once, self.labels, report)
        self._shard = config.shard
        self._results = open_results(config, self.worker, self.inputs.root)
        self.store = self._results.store

    @property
    def n_processed(self) -> int:
        """Files that are finished, segmented or failed; with several threads, maybe more than were yielded."""
        return len(self._processed)

    def __enter__(self) -> FolderRun:
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        """Join the tables, however the run ends; of several shards, only the last one does."""
        try:
            names = (file.name for file in self.inputs.files)
            self.joined = self._results.join(names, self.worker.job.run_key, only_whole=self._shard != WHOLE)
        except RuntimeEnvironmentError:
            if error is None:
                raise
        finally:
            if error is None:
                self._results.forget_blocks()
            self._results.close(is_last=self.joined is not None)

    def outcomes(self) -> Iterator[FileOutcome]:
        """Segment the files and yield the outcome of each, in their order.

        Raises
        ------
        RuntimeEnvironmentError
            The results cannot be written, or the folder of the images has vanished. What was written before is kept.
        """
        for outcome in self._in_turn() if self._n_at_once == 1 else self._side_by_side():
            if not outcome.is_ok:
                _check_folder(self.inputs.root)
            yield outcome

    def _in_turn(self) -> Iterator[FileOutcome]:
        for file in self.files:
            yield self._process(file)

    def _process(self, file: ImageFile) -> FileOutcome:
        outcome = process_file(file, self.worker, self.store)
        self._processed.append(file)
        return outcome

    def _side_by_side(self) -> Iterator[FileOutcome]:
        waiting: deque[Future[FileOutcome]] = deque()
        with ThreadPoolExecutor(self._n_at_once) as pool:
            try:
                for file in self.files:
                    # Only a few ahead, so that the outcome of a slow file is not held back by many later ones.
                    if len(waiting) == FILES_AHEAD * self._n_at_once:
                        yield _result(waiting.popleft())
                    waiting.append(pool.submit(self._process, file))
                while waiting:
                    yield _result(waiting.popleft())
            except BaseException:  # what is begun is not finished either, as in a run with one thread
                self.worker.stop.set()
                raise
            finally:
                for future in waiting:
                    future.cancel()


def _result(future: Future[FileOutcome]) -> FileOutcome:
    while not wait([future], _INTERRUPTIBLE_S).done:
        pass
    return future.result()


def _check_folder(root: Path) -> None:
    """Raise if the folder of the images is gone, since every remaining image would fail."""
    with suppress(OSError), os.scandir(root) as entries:
        if next(entries, None) is not None:
            return
    raise RuntimeEnvironmentError(
        f"{root}: the folder of the images has vanished or was emptied during the run; check its drive or network "
        f"share; {KEPT}"
    )
