"""Image files -> their results, one file after the other; one that fails fails alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event

from nuclei_runtime.arrays import Image
from nuclei_runtime.errors import ImageReadError, ResultsExistError, RuntimeEnvironmentError
from nuclei_runtime.faults import image_failure, reading_error
from nuclei_runtime.readers.opening import open_planes
from nuclei_runtime.readers.plane import Plane, Selection
from nuclei_runtime.results.folder import ResultsFolder
from nuclei_runtime.results.joined_tables import join_plane_tables
from nuclei_runtime.results.layout import LABELS_FOLDER, OVERLAYS_FOLDER, TABLES_FOLDER, result_path
from nuclei_runtime.results.records import FileDigest, Record, damaged_result, digest_file, digest_tree, record_of
from nuclei_runtime.results.writing import KEPT, writing
from nuclei_runtime.runs.inputs import ImageFile
from nuclei_runtime.segmentation.admission import Admission
from nuclei_runtime.segmentation.blocks import segment_plane
from nuclei_runtime.segmentation.segmenter import Segmenter
from nuclei_runtime.writers.nuclei_csv import Outcome
from nuclei_runtime.writers.plane_files import write_plane_files


@dataclass(frozen=True)
class Method:
    """How images are segmented.

    Attributes
    ----------
    segmenter : Segmenter
    selection : Selection
    run_key : str
        See `nuclei_runtime.results.provenance.run_key`.
    max_memory : int, optional
        See `nuclei_runtime.segmentation.blocks.segment_plane`.
    admission : Admission
        Shared by all files that are segmented at the same time.
    stop : Event
        Set, it interrupts what is being segmented, as `KeyboardInterrupt`, when pixels are next read.
    """

    segmenter: Segmenter
    selection: Selection
    run_key: str
    max_memory: int | None = None
    admission: Admission = field(default_factory=Admission)
    stop: Event = field(default_factory=Event)


@dataclass(frozen=True)
class FileOutcome:
    """What became of an image file.

    Attributes
    ----------
    planes : tuple of Outcome
    is_kept : bool
        Whether the results of an earlier run were found whole and left as they are.
    redone : str, optional
        Why the results of an earlier run were made anew.
    """

    planes: tuple[Outcome, ...]
    is_kept: bool = False
    redone: str | None = None

    @property
    def is_ok(self) -> bool:
        """Whether no plane failed."""
        return all(plane.status == "ok" for plane in self.planes)


def process_file(
    file: ImageFile, method: Method, results: ResultsFolder, *, record_failure: bool = True
) -> FileOutcome:
    """Segment an image file and write its results, unless an earlier run's are whole.

    Parameters
    ----------
    file : ImageFile
    method : Method
    results : ResultsFolder
    record_failure : bool
        Whether a file that fails leaves a record; without one it is as if it had not been tried.

    Raises
    ------
    RuntimeEnvironmentError
        Results cannot be written. What was written before stays.
    """
    source = digest_source(file)
    redone = None
    with suppress(FileNotFoundError):  # an image that is new
        earlier = record_of(results.path, file.name)
        redone = why_redone(earlier, file, method, source, results.path)
        if earlier is not None and redone is None:
            return FileOutcome(earlier.planes, is_kept=True)
    with results.workspace(file.name) as work:
        record, made = make_results(file, source, method, work)
        if not record.is_ok and not record_failure:
            return FileOutcome(record.planes)
        try:
            results.place(record, made, work)
        except ResultsExistError as error:
            record = _failure(file, method, source, str(error))
            results.place(record, {}, work)
    return FileOutcome(record.planes, redone=redone)


def why_redone(
    record: Record | None, file: ImageFile, method: Method, source: FileDigest | str, out: Path
) -> str | None:
    """Return why what an earlier run made of a file does not stand; None if it does."""
    if record is None:
        return "its record is damaged"
    if record.run_key != method.run_key:
        return "its results were made with another model, other parameters or another version"
    if isinstance(source, str) or record.source != source:
        return "the image has changed"
    if record.stem != file.stem:
        return "its results are to have another name, because there is another image of this one now"
    if not record.is_ok:
        return "it failed"
    damaged = damaged_result(out, record)
    return None if damaged is None else f"{damaged} is missing or has changed"


def make_results(
    file: ImageFile, source: FileDigest | str, method: Method, work: Path
) -> tuple[Record, dict[str, Path]]:
    """Write what becomes of an image file into a workspace.

    Parameters
    ----------
    file : ImageFile
    source : FileDigest or str
        The file's content, or why it cannot be read.
    method : Method
    work : Path

    Returns
    -------
    record : Record
    made : dict
        For each result that the record names the file in the workspace.

    Raises
    ------
    RuntimeEnvironmentError
        The workspace cannot be written to.
    """
    if isinstance(source, str):
        return _failure(file, method, source, source), {}
    planes: list[Outcome] = []
    made: dict[str, Path] = {}
    tables: list[Path] = []
    try:
        with ExitStack() as opened:
            with _reading():
                found = opened.enter_context(open_planes(file.path, method.selection))
            for index, plane in enumerate(found):
                outcome, files = _make_plane(file, plane, method, work / str(index))
                planes.append(outcome)
                tables += [files.pop(TABLES_FOLDER)] if files else []
                made |= {result_path(folder, file.stem, plane.suffix): path for folder, path in files.items()}
        if digest_source(file) != source:
            raise ImageReadError("the file changed while it was read; let the one who writes it finish")
    except Exception as error:
        return _failure(file, method, source, image_failure(error)), {}
    if tables:
        joined = work / "joined.csv"
        with writing(work):
            join_plane_tables(tables, joined)
        made[result_path(TABLES_FOLDER, file.stem)] = joined
    with writing(work):
        digests = {target: digest_file(path).sha256 for target, path in sorted(made.items())}
    return Record(file.name, file.stem, method.run_key, source, tuple(planes), digests), made


def _make_plane(file: ImageFile, plane: Plane, method: Method, prefix: Path) -> tuple[Outcome, dict[str, Path]]:
    """Write the files of one plane; none if it fails."""
    plane = _guarded(plane, method.stop)
    files = {
        LABELS_FOLDER: prefix.with_suffix(".tif"),
        OVERLAYS_FOLDER: prefix.with_suffix(".png"),
        TABLES_FOLDER: prefix.with_suffix(".csv"),
    }
    try:
        with writing(prefix.parent), method.admission.admit(plane, method.segmenter):
            written = write_plane_files(
                file.name,
                plane,
                segment_plane(plane, method.segmenter, max_memory=method.max_memory),
                labels=files[LABELS_FOLDER],
                overlay=files[OVERLAYS_FOLDER],
                table=files[TABLES_FOLDER],
            )
    except Exception as error:
        return Outcome(file.name, "failed", plane.time, plane.z, reason=image_failure(error)), {}
    height, width = plane.shape[:2]
    pixel_height, pixel_width = plane.pixel_size_um or (None, None)
    outcome = Outcome(
        image=file.name,
        status="ok",
        time=plane.time,
        z=plane.z,
        n_nuclei=written.n_nuclei,
        height=height,
        width=width,
        pixel_height_um=pixel_height,
        pixel_width_um=pixel_width,
        nuclei_per_megapixel=round(1e6 * written.n_nuclei / (height * width), 3),
        overlay_scale=written.overlay_scale,
        labels=result_path(LABELS_FOLDER, file.stem, plane.suffix),
    )
    return outcome, files


def _guarded(plane: Plane, stop: Event) -> Plane:
    """Return the plane with the event that interrupts it looked at each time before pixels are read."""

    def read(rows: slice, columns: slice) -> Image:
        if stop.is_set():
            raise KeyboardInterrupt
        with _reading():
            return plane.read(rows, columns)

    return replace(plane, read=read)


@contextmanager
def _reading() -> Iterator[None]:
    """Say of an error of the machine, while an image is read, that earlier results stay."""
    try:
        yield
    except RuntimeEnvironmentError as error:
        raise RuntimeEnvironmentError(f"{error}; {KEPT}") from error


def digest_source(file: ImageFile) -> FileDigest | str:
    """Return the file's content in short, or why it cannot be read.

    Raises
    ------
    RuntimeEnvironmentError
        The machine is at fault.
    """
    try:
        file.name.encode()
    except UnicodeEncodeError:
        return "the file's name is not text in this system's encoding; rename it"
    try:
        return digest_tree(file.path) if file.path.is_dir() else digest_file(file.path)
    except OSError as error:
        with _reading():
            return image_failure(reading_error(error))


def _failure(file: ImageFile, method: Method, source: FileDigest | str, reason: str) -> Record:
    outcome = Outcome(image=file.name, status="failed", reason=reason)
    return Record(file.name, file.stem, method.run_key, None if isinstance(source, str) else source, (outcome,), {})
