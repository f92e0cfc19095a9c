"""From one image file to its results. A file that fails does not affect any other."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from nuclei_runtime.arrays import Image
from nuclei_runtime.errors import ImageReadError, ResultsExistError
from nuclei_runtime.faults import image_failure
from nuclei_runtime.readers.opening import open_planes
from nuclei_runtime.readers.plane import Plane, Read
from nuclei_runtime.results.differing import Differing, differing_results
from nuclei_runtime.results.layout import files_of, result_path, token_of
from nuclei_runtime.results.outcome import PlaneOutcome, Segmented, segmented
from nuclei_runtime.results.records import FileDigest, Record, digest_file, record_of
from nuclei_runtime.results.remote_store import AnyStore
from nuclei_runtime.results.writing import writing
from nuclei_runtime.runs.given import AnyWorker
from nuclei_runtime.runs.inputs import ImageFile
from nuclei_runtime.runs.sources import at_hand, digest_labels, digest_source, keeping_results
from nuclei_runtime.runs.unread_channels import UnreadChannelError, naming_channels, without
from nuclei_runtime.runs.workers import PlaneTask
from nuclei_runtime.segmentation.cancelling import cancellable
from nuclei_runtime.writers.outputs import LABELS, Output
from nuclei_runtime.writers.plane_files import write_plane_files


@dataclass(frozen=True)
class FileOutcome:
    """The outcome of an image file.

    Attributes
    ----------
    planes : tuple of PlaneOutcome
    is_kept : bool
        Whether the results of an earlier run were complete and were left as they are.
    redone : str, optional
        Why the results of an earlier run were replaced.
    changed : tuple of str
        Results of an earlier run that somebody has changed since, such as a label image that was corrected. They and
        the other results of the image were kept, whatever else has changed.
    """

    planes: tuple[PlaneOutcome, ...]
    is_kept: bool = False
    redone: str | None = None
    changed: tuple[str, ...] = ()

    @property
    def is_ok(self) -> bool:
        """Whether no plane failed."""
        return all(plane.status == "ok" for plane in self.planes)


def process_file(
    file: ImageFile,
    worker: AnyWorker,
    store: AnyStore,
    *,
    record_failure: bool = True,
    obstacle: str | None = None,
) -> FileOutcome:
    """Segment an image file and write its results, unless those of an earlier run are complete, or were changed since.

    Parameters
    ----------
    file : ImageFile
    worker : Worker or GivenWorker
    store : ResultStore or RemoteStore
    record_failure : bool
        Whether a file that fails gets a record. Without one, it is as if it had not been tried.
    obstacle : str, optional
        Why the file must not even be opened: it fails for this reason.

    Raises
    ------
    RuntimeEnvironmentError
        The results cannot be written, or the machine is at fault. What was written before is kept.
    """
    earlier, is_new = None, True
    with suppress(FileNotFoundError):
        earlier, is_new = record_of(store.path, file.name), False
    if obstacle is None and earlier is not None and _is_told_unchanged(file, earlier):
        differing = differing_results(store.path, earlier)
        told = earlier.source or ""
        if differing.changed or why_redone(earlier, file, worker, told, differing) is None:
            return _keep(earlier, told, differing.changed, worker, store)
    with at_hand(file) if obstacle is None else nullcontext((file, obstacle)) as (local, source):
        return _process(local, source, worker, store, earlier, is_new=is_new, record_failure=record_failure)


def _is_told_unchanged(file: ImageFile, earlier: Record) -> bool:
    """Whether the store of an image tells that it is the one that was segmented, so that it need not be fetched."""
    if file.origin is None or file.origin.version is None or earlier.source is None:
        return False
    return earlier.is_ok and earlier.source.version == file.origin.version


def _process(
    file: ImageFile,
    source: FileDigest | str,
    worker: AnyWorker,
    store: AnyStore,
    earlier: Record | None,
    *,
    is_new: bool,
    record_failure: bool,
) -> FileOutcome:
    redone = None
    may_have_results = not is_new and (earlier is None or bool(earlier.results))
    if may_have_results and (reason := _unread(file, source, worker)) is not None:
        return _failed_and_kept(_failure(file, worker, source, reason), earlier, store)
    if not is_new:
        differing = Differing() if earlier is None else differing_results(store.path, earlier)
        redone = why_redone(earlier, file, worker, source, differing)
        if earlier is not None and (redone is None or differing.changed):
            return _keep(earlier, source, differing.changed, worker, store)
    with store.workspace(file.name) as work:
        record, made = make_results(file, source, worker, work, store)
        if not record.is_ok and not record_failure:
            return FileOutcome(record.planes)
        if may_have_results and not made and _is_as_before(file, worker, earlier):
            return _failed_and_kept(record, earlier, store)
        try:
            store.place(record, made, work)
        except ResultsExistError as error:
            record = _failure(file, worker, source, str(error))
            if may_have_results:
                return _failed_and_kept(record, earlier, store)
            store.place(record, {}, work)
        store.remove_kept_blocks(token_of(file.name).__eq__)
    return FileOutcome(record.planes, redone=redone)


def _unread(file: ImageFile, source: FileDigest | str, worker: AnyWorker) -> str | None:
    """Return why the image or its labels cannot be read, such as a drive that is not mounted; None if they can."""
    read = source if isinstance(source, str) else digest_labels(file, worker)
    return read if isinstance(read, str) else None


def _is_as_before(file: ImageFile, worker: AnyWorker, earlier: Record | None) -> bool:
    """Whether nothing shows that an image or its labels are others than those that the earlier results are of."""
    source = digest_source(file)
    if earlier is None or _unread(file, source, worker) is not None:  # the drive may just have gone
        return True
    return (earlier.source, earlier.labels_from) == (source, digest_labels(file, worker))


def _failed_and_kept(record: Record, earlier: Record | None, store: AnyStore) -> FileOutcome:
    """Return the outcome of an image that failed, with nothing to replace its earlier results."""
    if earlier is not None:
        _leave(earlier, earlier, record.run_key, store)
    return FileOutcome(
        tuple(replace(plane, reason=f"{plane.reason}; its earlier results are kept") for plane in record.planes)
    )


def _keep(
    record: Record, source: FileDigest | str, changed: tuple[str, ...], worker: AnyWorker, store: AnyStore
) -> FileOutcome:
    """Leave the results of an image as they are; its rows name those that somebody has changed."""
    planes = tuple(replace(plane, changed_results=", ".join(changed) or None) for plane in record.planes)
    told = source if isinstance(source, FileDigest) and source == record.source else record.source
    kept = replace(record, planes=planes, source=told)  # its store may tell another version
    _leave(record, kept, worker.job.run_key, store)
    return FileOutcome(planes, is_kept=True, changed=changed)


def _leave(earlier: Record, kept: Record, run_key: str, store: AnyStore) -> None:
    """Let the record of an image whose results stay say that a run of this key is done with it."""
    kept = replace(kept, kept_in=None if kept.run_key == run_key else run_key)
    if kept.to_json() != earlier.to_json():
        with store.workspace(kept.image) as work:
            store.replace_record(kept, work)


def why_redone(
    record: Record | None, file: ImageFile, worker: AnyWorker, source: FileDigest | str, differing: Differing
) -> str | None:
    """Return why the results of an earlier run must be replaced; None if they can stay."""
    if record is None:
        return "its record is damaged"
    if record.run_key != worker.job.run_key:
        return "its results were made with another model, other options or another version"
    if not record.is_ok:
        return "it failed before"
    if record.source != source:
        return "the image has changed"
    if record.labels_from != digest_labels(file, worker):
        return "its labels have changed"
    if record.stem != file.stem:
        return "its results need another name, because another image now has the same name"
    return f"{differing.damaged[0]} is missing or damaged" if differing.damaged else None


def make_results(
    file: ImageFile, source: FileDigest | str, worker: AnyWorker, work: Path, store: AnyStore | None = None
) -> tuple[Record, dict[str, Path]]:
    """Write the results of an image file into a workspace.

    Parameters
    ----------
    file : ImageFile
    source : FileDigest or str
        The digest of the file, or why it cannot be read.
    worker : Worker or GivenWorker
    work : Path
    store : ResultStore or RemoteStore, optional
        Where the blocks of large planes are kept until the results are placed.

    Returns
    -------
    record : Record
    made : dict
        The file in the workspace, for each result that the record names.

    Raises
    ------
    RuntimeEnvironmentError
        The workspace cannot be written to.
    """
    if isinstance(source, str):
        return _failure(file, worker, source, source), {}
    planes: list[PlaneOutcome] = []
    made: dict[str, Path] = {}
    labels_from = digest_labels(file, worker)
    if isinstance(labels_from, str):
        return _failure(file, worker, source, labels_from), {}
    outputs = worker.job.outputs.outputs
    to_join: dict[Output, list[Path]] = {output: [] for output in outputs if output.join_planes is not None}
    try:
        with ExitStack() as opened:
            with keeping_results():
                found = opened.enter_context(open_planes(file.source, worker.job.selection))
            for index, plane in enumerate(found):
                files = {output: work / f"{index}-{output.folder}{output.ending}" for output in outputs}
                key = f"{worker.job.run_key} {source.sha256} {source.size} {index}"
                keep = store.kept_blocks(file.name, key) if store is not None and plane.is_large else None
                readable = naming_channels(cancellable(_guarded(plane), worker.stop))
                task = PlaneTask(file, readable, index, found, keep)
                planes.append(_make_plane(task, worker, work, files))
                for output, path in files.items() if planes[-1].status == "ok" else ():
                    if output in to_join:
                        to_join[output].append(path)
                    else:
                        made |= files_of(result_path(output, file.stem, plane.suffix), path)
        if digest_source(file) != source or digest_labels(file, worker) != labels_from:
            raise ImageReadError("the file changed while it was read; wait until it is completely written")
    except Exception as error:
        return _failure(file, worker, source, image_failure(error)), {}
    with writing(work):
        for output, paths in to_join.items():
            if paths and output.join_planes is not None:
                joined = work / f"joined-{output.folder}{output.ending}"
                output.join_planes(paths, joined)
                made[result_path(output, file.stem)] = joined
        digests = {target: digest_file(path).sha256 for target, path in sorted(made.items())}
    return Record(file.name, file.stem, worker.job.run_key, source, tuple(planes), digests, labels_from), made


def _make_plane(task: PlaneTask, worker: AnyWorker, work: Path, files: Mapping[Output, Path]) -> PlaneOutcome:
    """Write the outputs of one plane. If the plane fails, they are not complete."""
    file, plane = task.file, task.plane
    try:
        with writing(work), worker.nuclei(task) as nuclei:
            written = write_plane_files(file.name, plane, nuclei.blocks, files, worker.job.outputs.expansion)
            corrections = nuclei.corrections()
    except UnreadChannelError as error:
        return _make_plane(replace(task, plane=without(plane, error)), worker, work, files)
    except Exception as error:
        reason = image_failure(error)
        where = (plane.scene_label, plane.well, plane.field, plane.time, plane.z)
        return PlaneOutcome(file.name, "failed", *where, reason=reason)
    labels = result_path(LABELS, file.stem, plane.suffix) if LABELS in files else None
    return segmented(file.name, Segmented(plane, written, corrections), labels)


def _guarded(plane: Plane) -> Plane:
    """Return the plane with `_reading` around each reading of pixels."""

    def guarded(read: Read) -> Read:
        def read_region(rows: slice, columns: slice) -> Image:
            with keeping_results():
                return read(rows, columns)

        return read_region

    return plane.reading(guarded)


def _failure(file: ImageFile, worker: AnyWorker, source: FileDigest | str, reason: str) -> Record:
    well, field = (None, None) if file.field is None else (file.field.well, file.field.name)
    outcome = PlaneOutcome(file.name, "failed", well=well, field=field, reason=reason)
    return Record(file.name, file.stem, worker.job.run_key, None if isinstance(source, str) else source, (outcome,), {})
