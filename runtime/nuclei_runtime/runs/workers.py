"""Workers, and the jobs they are made from. A job can be pickled; the process that does the work makes a worker of it.

Threads share one worker; each process makes its own. The code that starts them passes each image file to
`nuclei_runtime.runs.image_file.process_file` and joins the tables when all files are done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any, Protocol, Self

from nuclei_runtime.errors import RuntimeEnvironmentError
from nuclei_runtime.readers.plane import Plane, Selection
from nuclei_runtime.results.provenance import describe_method, run_key
from nuclei_runtime.runs.inputs import ImageFile
from nuclei_runtime.segmentation.admission import Admission
from nuclei_runtime.segmentation.blocks import Block, segment_plane
from nuclei_runtime.segmentation.given_labels import Corrections
from nuclei_runtime.segmentation.options import SegmenterOptions
from nuclei_runtime.segmentation.plane_tiles import Helpers
from nuclei_runtime.segmentation.segmenter import Segmenter
from nuclei_runtime.writers.outputs import OutputOptions


@dataclass(frozen=True)
class Job:
    """What to do to each image file of a run.

    Attributes
    ----------
    options : SegmenterOptions
        Their threads are for one file at a time.
    selection : Selection
    outputs : OutputOptions
    run_key : str
        See `nuclei_runtime.results.provenance.run_key`.
    max_memory : int, optional
        For one process, in bytes; see `nuclei_runtime.segmentation.blocks.segment_plane`.
    """

    options: SegmenterOptions
    selection: Selection
    outputs: OutputOptions
    run_key: str
    max_memory: int | None = None


class ReportBlocks(Protocol):
    """Is told how far the segmentation of a large image is; several threads may call it at once."""

    def __call__(self, image: str, done: int, total: int) -> None:
        """Take how many blocks of one of its planes are done; the first time, how many an earlier run has kept."""


def report_nothing(image: str, done: int, total: int) -> None:
    """Take a report, and do nothing."""


@dataclass(frozen=True, eq=False)
class PlaneTask:
    """A plane whose nuclei are wanted.

    Attributes
    ----------
    file : ImageFile
    plane : Plane
    index : int
        Which of the file's planes it is, from 0.
    planes : sequence of Plane
        All of the file; only labels that were given need them.
    keep : Path, optional
        Where the blocks of a large plane are kept until its results are placed.
    """

    file: ImageFile
    plane: Plane
    index: int = 0
    planes: Sequence[Plane] = ()
    keep: Path | None = None


@dataclass(frozen=True, eq=False)
class Nuclei:
    """The nuclei of a plane.

    Attributes
    ----------
    blocks : iterator of Block
    corrections : callable
        After the last block, returns what is known of labels that a person gave; None if a model found them.
    """

    blocks: Iterator[Block]
    corrections: Callable[[], Corrections | None] = lambda: None


@dataclass(frozen=True)
class Worker:
    """A job with the loaded model. Several threads may share it.

    Attributes
    ----------
    job : Job
    segmenter : Segmenter
    admission : Admission
        Lets planes into the memory of this process.
    stop : Event
        Once set, it ends the current segmentation with `SegmentationCancelledError` when pixels are next read.
    report : ReportBlocks
    helpers : Helpers, optional
        Others that compute tiles of large planes.
    """

    job: Job
    segmenter: Segmenter
    admission: Admission = field(default_factory=Admission)
    stop: Event = field(default_factory=Event)
    report: ReportBlocks = report_nothing
    helpers: Helpers | None = None

    @classmethod
    def load(
        cls, job: Job, n_at_once: int = 1, report: ReportBlocks = report_nothing, helpers: Helpers | None = None
    ) -> Self:
        """Load the model in this process, for `n_at_once` files at a time.

        Raises
        ------
        ModelError, RuntimeEnvironmentError
            See `nuclei_runtime.model.session.load_session`; or this process would give other results than the run.
        """
        segmenter = Segmenter.from_options(job.options)
        found = run_key(describe_method(segmenter, job.selection, job.outputs))
        if found != job.run_key:
            raise RuntimeEnvironmentError(
                f"this worker would give other results than the run that it belongs to: its run key is {found}, the "
                f"run's {job.run_key}; give all workers the same model file and the same version of nuclei-edge"
            )
        return cls(job, segmenter, Admission(n_at_once, job.max_memory), report=report, helpers=helpers)

    def describe(self) -> dict[str, Any]:
        """Return everything that the bits of the results depend on, apart from the images."""
        return describe_method(self.segmenter, self.job.selection, self.job.outputs)

    def label_digests(self, _: ImageFile) -> dict[str, str]:
        """Return the SHA-256 of the files that give an image's labels: there are none."""
        return {}

    @contextmanager
    def nuclei(self, task: PlaneTask) -> Iterator[Nuclei]:
        """Find the nuclei of a plane, once there is memory for it."""
        network = self.segmenter.network
        with self.admission.admit(task.plane, network) as share:
            yield Nuclei(
                segment_plane(
                    task.plane,
                    network,
                    max_memory=self.job.max_memory,
                    share=share,
                    keep=task.keep,
                    report=partial(self.report, task.file.name),
                    helpers=self.helpers,
                )
            )
