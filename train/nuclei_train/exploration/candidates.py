"""Unlabelled images -> candidates for annotation: what the model finds in each, and how it looks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from nuclei_runtime.errors import ImageShapeError, ImageTooLargeError
from nuclei_runtime.faults import image_failure
from nuclei_runtime.readers.opening import open_planes
from nuclei_runtime.readers.plane import LARGE_PX, plane_of
from nuclei_runtime.runs.inputs import ImageFile
from nuclei_runtime.runs.workers import PlaneTask, Worker
from nuclei_runtime.segmentation.result import joined
from nuclei_runtime.steps.evidence import Evidence
from nuclei_runtime.steps.flags import Flag
from nuclei_runtime.steps.novelty import MIN_SIDE_PX, Appearance, appearance_of
from nuclei_runtime.steps.preprocess import preprocess
from nuclei_train.data.samples import Sample
from nuclei_train.errors import DatasetError
from nuclei_train.recipes.recipe import NORMALISATION

_Source = TypeVar("_Source", ImageFile, Sample)


@dataclass(frozen=True, eq=False)
class Candidate:
    """A plane that may be annotated.

    Attributes
    ----------
    file : ImageFile
    index : int
        Which of the file's planes it is, from 0.
    suffix : str
        `nuclei_runtime.readers.plane.Plane.suffix`.
    n_nuclei : int
        That the model finds.
    diameter_px : float or None
        Their median diameter; None if there are none.
    evidence : Evidence
    flags : tuple of Flag
        Why what the model finds may not be trusted.
    appearance : Appearance
    """

    file: ImageFile
    index: int
    suffix: str
    n_nuclei: int
    diameter_px: float | None
    evidence: Evidence
    flags: tuple[Flag, ...]
    appearance: Appearance

    @property
    def name(self) -> str:
        """The name of its file, with what tells it from the file's other planes."""
        return self.file.name + self.suffix


@dataclass
class Candidates:
    """What was found in some images.

    Attributes
    ----------
    found : list of Candidate
        In the order of the images.
    empty : list of str
        Names of images and planes in which nothing stands out from the noise: there is nothing to annotate.
    failed : dict of str to str
        Why an image or plane cannot be annotated, by its name.
    """

    found: list[Candidate] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def add(self, other: Candidates) -> None:
        """Add what was found in other images."""
        self.found += other.found
        self.empty += other.empty
        self.failed |= other.failed


def look_at_files(
    files: Sequence[ImageFile], worker: Worker, n_at_once: int, advance: Callable[[], None]
) -> Candidates:
    """Look at all planes of image files with a model; `advance` is called after each file.

    Raises
    ------
    ModelError, RuntimeEnvironmentError
        The model or the machine is at fault.
    """
    return _look_at_all(files, lambda file: _look_at_file(file, worker), n_at_once, advance)


def look_at_samples(
    samples: Sequence[Sample], worker: Worker, n_at_once: int, advance: Callable[[], None]
) -> Candidates:
    """Look at images that are annotated already; see `look_at_files`."""
    return _look_at_all(samples, lambda sample: _look_at_sample(sample, worker), n_at_once, advance)


def _look_at_all(
    sources: Sequence[_Source], look: Callable[[_Source], Candidates], n_at_once: int, advance: Callable[[], None]
) -> Candidates:
    candidates = Candidates()
    with ThreadPoolExecutor(n_at_once) as pool:
        try:
            for found in pool.map(look, sources):
                candidates.add(found)
                advance()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return candidates


def _look_at_file(file: ImageFile, worker: Worker) -> Candidates:
    seen = Candidates()
    try:
        with open_planes(file.source, worker.job.selection) as planes:
            for index, plane in enumerate(planes):
                try:
                    _look_at(PlaneTask(file, plane, index, planes), worker, seen)
                except Exception as error:
                    seen.failed[file.name + plane.suffix] = image_failure(error)
    except Exception as error:
        seen.failed[file.name] = image_failure(error)
    return seen


def _look_at_sample(sample: Sample, worker: Worker) -> Candidates:
    seen = Candidates()
    file = ImageFile(Path(sample.image_name), sample.image_name, sample.image_id)
    try:
        _look_at(PlaneTask(file, plane_of(sample.read_image())), worker, seen)
    except DatasetError as error:
        seen.failed[sample.image_name] = str(error)
    except Exception as error:
        seen.failed[sample.image_name] = image_failure(error)
    return seen


def _look_at(task: PlaneTask, worker: Worker, seen: Candidates) -> None:
    """Add what is found in a plane.

    Raises
    ------
    ImageError
        It cannot be read or annotated.
    """
    plane = task.plane
    size = " x ".join(map(str, plane.shape[:2]))
    if plane.is_large:
        raise ImageTooLargeError(
            f"{size} pixels are too many to annotate, expected sides of at most {LARGE_PX}; cut fields of about 1,000 "
            "pixels out of it and suggest among these"
        )
    with worker.nuclei(task) as nuclei:
        found = joined(nuclei.blocks, plane.shape[:2], worker.segmenter.network.view)
    if Flag.BLANK in found.flags:
        seen.empty.append(task.file.name + plane.suffix)
        return
    appearance = found.evidence.appearance
    if appearance is None:  # models that do not look at an image before they segment it
        image = plane.read(slice(0, plane.shape[0]), slice(0, plane.shape[1]))
        appearance = appearance_of([preprocess(image, (NORMALISATION,))])
    if appearance is None:
        raise ImageShapeError(f"{size} pixels are too few to compare, expected sides of at least {MIN_SIDE_PX}")
    seen.found.append(
        Candidate(
            task.file,
            task.index,
            plane.suffix,
            found.count,
            found.estimated_diameter_px,
            found.evidence,
            found.flags,
            appearance,
        )
    )
