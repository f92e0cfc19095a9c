"""One run over images: loads the model, opens the results folder, segments each file, joins the tables."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PurePath
from types import TracebackType
from typing import Protocol, TypeVar

from nuclei_runtime.errors import RuntimeEnvironmentError
from nuclei_runtime.results.earlier import EarlierResults
from nuclei_runtime.results.joined_tables import Joined
from nuclei_runtime.results.layout import PROVENANCE_FILE, token_of
from nuclei_runtime.results.outcome import Verified
from nuclei_runtime.results.provenance import (
    changes_since,
    describe_method,
    methods_in,
    provenance_json,
    read_provenance,
    run_key,
)
from nuclei_runtime.results.remote_folder import AnyResultsFolder, open_results_folder
from nuclei_runtime.results.remote_store import AnyStore
from nuclei_runtime.results.shard import WHOLE
from nuclei_runtime.results.writing import KEPT
from nuclei_runtime.runs.config import RunConfig, find_inputs, n_threads
from nuclei_runtime.runs.given import AnyWorker, GivenWorker
from nuclei_runtime.runs.image_file import FileOutcome
from nuclei_runtime.runs.inputs import ImageFile
from nuclei_runtime.runs.label_files import LabelSet
from nuclei_runtime.runs.same_view import common_view
from nuclei_runtime.runs.threads import Threads
from nuclei_runtime.runs.workers import Job, ReportBlocks, Worker, report_nothing
from nuclei_runtime.segmentation.admission import Admission
from nuclei_runtime.segmentation.segmenter import Segmenter
from nuclei_runtime.stores.remote import RemoteFolder

Outcome_co = TypeVar("Outcome_co", covariant=True)


class Crew(Protocol[Outcome_co]):
    """Processes the files of a run."""

    @property
    def n_processed(self) -> int:
        """Files that are finished, segmented or failed; maybe more than were yielded."""

    def outcomes(self, files: Sequence[ImageFile]) -> Iterator[Outcome_co]:
        """Yield the outcome of each file, and stop what is in hand when the iterator is closed."""


class Cluster(Protocol):
    """Other processes that can do the work of a run; see `nuclei_runtime.runs.cluster`."""

    def crew(
        self, name: str, job: Job, store: AnyStore, files: Sequence[ImageFile], report: ReportBlocks
    ) -> Crew[FileOutcome]:
        """Prepare these processes for a job, and return who does it."""

    def comparers(self, name: str, job: Job, results: EarlierResults, files: Sequence[ImageFile]) -> Crew[Verified]:
        """Prepare them for `nuclei_runtime.runs.verify.verify`."""


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


def with_same_view(config: RunConfig, files: Sequence[ImageFile], note: Callable[[str], object]) -> RunConfig:
    """Return the configuration with the view that is chosen for all these files, if one is asked for.

    Raises
    ------
    ModelError, RuntimeEnvironmentError
        See `nuclei_runtime.model.session.load_session`.
    """
    if not config.same_view:
        return config
    with Segmenter.from_options(config.options) as segmenter:
        view = common_view(files, segmenter.network, config.selection, config.max_memory, note)
    options = replace(config.options, view=view, diameter_px=None, stain=None)
    return replace(config, options=options, same_view=False)


def open_results(
    config: RunConfig, worker: AnyWorker, root: Path | RemoteFolder
) -> tuple[AnyResultsFolder, str | None]:
    """Open the results folder and write the run's provenance into it.

    Parameters
    ----------
    config : RunConfig
    worker : Worker
    root : Path or RemoteFolder
        `Inputs.root`.

    Returns
    -------
    results : AnyResultsFolder
    changes : str or None
        What this run does differently from the earlier one that it continues.

    Raises
    ------
    ResultsExistError, ResultsInUseError, RuntimeEnvironmentError
        See `ResultsFolder`.
    """
    results = open_results_folder(config.out, config.mode, config.shard, config.tables, config.conditions)
    try:
        method = worker.describe()
        earlier = read_provenance(results.path / PROVENANCE_FILE)
        changes = changes_since(earlier, method) if config.mode == "resume" else None
        images_folder, tables = _seen_from(config.out, root), config.tables.describe()
        text = provenance_json(method, tables, n_threads(config), methods_in(earlier), images_folder)
        results.write_provenance(text)
    except BaseException:
        results.close(is_last=False)
        raise
    return results, changes


def _whole_name(out: Path | RemoteFolder) -> str:
    return str(out.absolute()) if isinstance(out, Path) else out.url


def _seen_from(out: Path | RemoteFolder, root: Path | RemoteFolder) -> str:
    """Return the path from the results to the images: a folder that holds both can be moved."""
    if isinstance(out, Path) and isinstance(root, Path):
        with suppress(ValueError):  # on another drive of Windows
            return PurePath(os.path.relpath(root, out.resolve())).as_posix()
    return root.as_posix() if isinstance(root, Path) else root.url


class FolderRun:
    """A run over the images that exist when it begins, as a context manager.

    Parameters
    ----------
    config : RunConfig
    report : ReportBlocks
        Is told how many blocks of a large image are done.
    cluster : Cluster, optional
        Does the work in place of threads of this process.

    Attributes
    ----------
    inputs : Inputs
        All images, of every shard.
    labels : LabelSet, optional
        If the nuclei are given.
    view : View, optional
        In which all images are shown, if it is fixed.
    view_notes : list of str
        Which images the view was chosen without, and why.
    files : tuple of ImageFile
        Those of this shard.
    changes : str, optional
        What this run does differently from the earlier one that it continues.
    worker : Worker
    store : ResultStore or RemoteStore
    joined : Joined, optional
        After the ``with`` statement: what ``images.csv`` and ``nuclei.csv`` hold; None if they were not written.

    Raises
    ------
    InputsError, ModelError, ResultsExistError, ResultsInUseError, RuntimeEnvironmentError
        See `find_images`, `load_worker` and `ResultsFolder`.
    """

    def __init__(
        self, config: RunConfig, report: ReportBlocks = report_nothing, cluster: Cluster | None = None
    ) -> None:
        self.inputs, self.labels = find_inputs(config)
        self.view_notes: list[str] = []
        config = with_same_view(config, self.inputs.files, self.view_notes.append)
        self.view = config.options.view
        self.files = tuple(file for file in self.inputs.files if config.shard.owns(token_of(file.name)))
        self.joined: Joined | None = None
        # One thread per file, not all threads on one file: no thread waits while another reads, labels or writes.
        # Two of each where files come or go by URL, because a thread that waits for a store leaves its processor idle.
        is_remote = isinstance(config.out, RemoteFolder) or isinstance(self.inputs.root, RemoteFolder)
        n_at_once = max(1, min(n_threads(config) * (2 if is_remote else 1), len(self.files)))
        self.worker = load_worker(config, n_at_once, self.labels, report)
        self._shard = config.shard
        self._results, self.changes = open_results(config, self.worker, self.inputs.root)
        self.store = self._results.store
        try:
            self._crew: Crew[FileOutcome] = Threads(self.worker, self.store, n_at_once)
            if cluster is not None and self.files:
                job = replace(self.worker.job, options=config.options)  # each process has threads of its own
                shard = "" if config.shard == WHOLE else f" {config.shard.index}/{config.shard.count}"
                self._crew = cluster.crew(f"{_whole_name(config.out)}{shard}", job, self.store, self.files, report)
        except BaseException:
            if config.mode == "new":  # the same command is not refused when the cluster is in order
                self._results.remove_provenance()
            self._results.close(is_last=config.shard == WHOLE)
            raise

    @property
    def n_processed(self) -> int:
        """Files that are finished, segmented or failed; maybe more than were yielded."""
        return self._crew.n_processed

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
            self._results.close(is_last=self._shard == WHOLE or self.joined is not None)

    def outcomes(self) -> Iterator[FileOutcome]:
        """Segment the files and yield the outcome of each: in their order, or on a cluster as they are finished.

        Raises
        ------
        RuntimeEnvironmentError
            The results cannot be written, or the folder of the images has vanished. What was written before is kept.
        """
        for outcome in self._crew.outcomes(self.files):
            if not outcome.is_ok:
                _check_folder(self.inputs.root)
            yield outcome


def _check_folder(root: Path | RemoteFolder) -> None:
    """Raise if the folder of the images is gone, since every remaining image would fail."""
    with suppress(OSError):
        if isinstance(root, RemoteFolder):
            if root.kind() is not None:
                return
        elif any(root.iterdir()):
            return
    raise RuntimeEnvironmentError(
        f"{root}: the image folder has vanished or was emptied during the run; check its drive or network share; {KEPT}"
    )
