"""A worker for labels that a person gave: it measures what others find."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import Any

from nuclei_runtime.arrays import Labels
from nuclei_runtime.errors import ImageError
from nuclei_runtime.readers.labels import LabelPlane, open_labels
from nuclei_runtime.readers.plane import Plane
from nuclei_runtime.results.provenance import describe_given
from nuclei_runtime.results.records import digest_file, digest_tree
from nuclei_runtime.runs.inputs import ImageFile
from nuclei_runtime.runs.label_files import LabelSet
from nuclei_runtime.runs.workers import Job, Nuclei, PlaneTask, Worker
from nuclei_runtime.segmentation.given_labels import Corrections, GivenNuclei


@dataclass(frozen=True)
class GivenWorker:
    """A job whose nuclei are given, in place of `Worker`.

    Attributes
    ----------
    job : Job
        Of its options, those count that leave nuclei out.
    labels : LabelSet
    stop : Event
        See `Worker`.
    """

    job: Job
    labels: LabelSet
    stop: Event = field(default_factory=Event)

    def describe(self) -> dict[str, Any]:
        """Return everything that the bits of the results depend on, apart from the images and the labels."""
        before = self.labels.before
        return describe_given(
            self.job.options.sieve, self.job.selection, self.job.outputs, None if before is None else before.path
        )

    def label_digests(self, file: ImageFile) -> dict[str, str]:
        """Return the SHA-256 of the files that give an image's labels, or those before the correction.

        Raises
        ------
        OSError
            A file cannot be read.
        """
        return {
            "/".join(path.parts[-3:]): (digest_tree if path.is_dir() else digest_file)(path).sha256
            for path in self.labels.paths(file)
        }

    @contextmanager
    def nuclei(self, task: PlaneTask) -> Iterator[Nuclei]:
        """Open the labels of a plane, and those before the correction.

        Raises
        ------
        ImageError
            There are none, or they do not fit the plane. The message begins with the name of their file.
        """
        file, plane = task.file, task.plane
        path, is_of_all = self.labels.of(file, plane, len(task.planes))
        with ExitStack() as opened:
            labels = self._open(path, plane, task.planes if is_of_all else None, opened)
            remarks = labels.remarks
            before: LabelPlane | None = None
            if self.labels.before is not None:
                source = self.labels.before.before(file, plane)
                try:
                    if isinstance(source, str):
                        raise ImageError(source)
                    before = self._open(source, plane, None, opened)
                except ImageError as error:
                    remarks = (*remarks, f"what was changed is not known: {error}")
            given = GivenNuclei(plane, labels, before, self.job.options.sieve, self.job.max_memory)

            def corrections() -> Corrections:
                found = given.corrections()
                notes = (*remarks, *([] if found.note is None else [found.note]))
                return replace(found, note="; ".join(notes) or None)

            yield Nuclei(given.blocks(), corrections)

    def _open(self, path: Path, plane: Plane, planes: Sequence[Plane] | None, opened: ExitStack) -> LabelPlane:
        with _naming(path):
            labels = opened.enter_context(open_labels(path, self.job.selection.axes)).of(plane, planes)

        def read(rows: slice, columns: slice) -> Labels:
            with _naming(path):
                return labels.read(rows, columns)

        return replace(labels, read=read)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Begin the message of an error with the name of the label file: the image may be in order."""
    try:
        yield
    except ImageError as error:
        raise type(error)(f"{path.parent.name}/{path.name}: {error}") from error


AnyWorker = Worker | GivenWorker
