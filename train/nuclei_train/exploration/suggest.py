"""Unlabelled images -> a folder with those to annotate next, and what the model finds in them, to correct.

OUT/suggestions.csv     one row per suggested image, the one that teaches most first
OUT/images/             the suggested images
OUT/results/            what nuclei-infer finds in them: labels and outlines to correct, overlays to look at

When the labels or outlines in OUT/results are corrected, OUT is a data set to train on: see
`nuclei_train.data.layouts.results`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile
from numpy.typing import NDArray

from nuclei_runtime.arrays import Image
from nuclei_runtime.errors import ImageError, ResultsExistError
from nuclei_runtime.readers.opening import open_planes, read_image
from nuclei_runtime.readers.pixel_size import PixelSize
from nuclei_runtime.readers.plane import Selection
from nuclei_runtime.results.layout import PROVENANCE_FILE
from nuclei_runtime.runs.config import RunConfig, find_inputs, n_threads
from nuclei_runtime.runs.inputs import ImageFile
from nuclei_runtime.runs.run import FolderRun, load_worker
from nuclei_runtime.runs.workers import Worker
from nuclei_runtime.wording import counted
from nuclei_runtime.writers.outputs import LABEL_FORMS, OVERLAYS, OutputOptions
from nuclei_train.data.finding import open_data, open_folder
from nuclei_train.data.samples import Dataset, Sample
from nuclei_train.errors import DatasetError
from nuclei_train.exploration.candidates import Candidate, look_at_files, look_at_samples
from nuclei_train.exploration.choosing import Choice, choose, doubts_of
from nuclei_train.exploration.ruler import N_COORDINATES, Ruler, ruler_of

SUGGESTION_TABLE = "suggestions.csv"
IMAGES_FOLDER, RESULTS_FOLDER = "images", "results"


@dataclass(frozen=True)
class Suggestions:
    """What is suggested.

    Attributes
    ----------
    table : DataFrame
        One row per suggestion: rank, image, copy, why, expected_ap, novelty, flags, n_nuclei, n_alike,
        gain.
    n_candidates : int
        Images and planes to choose from.
    empty : list of str
        Names of images and planes without anything to annotate.
    failed : dict of str to str
        Why an image or plane was left out, by its name.
    """

    table: pd.DataFrame
    n_candidates: int
    empty: list[str]
    failed: dict[str, str]


def suggest(
    config: RunConfig, out: Path, n: int, annotated: Path | None, progress: Callable[[int, int], None]
) -> Suggestions:
    """Choose the images whose annotation teaches most, copy them, and write what the model finds in them.

    Parameters
    ----------
    config : RunConfig
        The images and the model. Those that are annotated where they lie count as `annotated`.
    out : Path
        The folder to write, which is new or empty.
    n : int
        How many images to suggest at most.
    annotated : Path, optional
        DATA that is annotated already: what looks like it teaches less.
    progress : callable
        Takes the number of images looked at or segmented and the total, after each.

    Raises
    ------
    InputsError
        See `nuclei_runtime.runs.inputs.find_images`.
    ResultsExistError
        The folder is not empty.
    DatasetError
        `annotated` is not understood, no image can be annotated, or all are annotated already.
    ModelError, RuntimeEnvironmentError
        The model or the machine is at fault.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ResultsExistError(f"{out}: not empty; choose a new folder for the suggestions")
    inputs, _ = find_inputs(config)
    known = _with_truth(open_data(annotated)) if annotated else []
    files: Sequence[ImageFile] = inputs.files
    for folder in (Path(source) for source in config.sources if Path(source).is_dir()):
        within = _annotated_within(folder)
        known += within
        used = {folder.resolve() / name for one in within for name in (one.image_name, *one.mask_names)}
        files = [file for file in files if file.path not in used]
    if not files:
        raise DatasetError(f"{', '.join(config.sources)}: all images are annotated already")
    n_files = len(files)
    n_at_once = max(1, min(n_threads(config), n_files))
    worker = load_worker(config, n_at_once)
    assert isinstance(worker, Worker)  # no labels are given
    steps, total = count(1), n_files + len(known) + min(n, n_files)
    seen = look_at_files(files, worker, n_at_once, lambda: progress(next(steps), total))
    before = look_at_samples(known, worker, n_at_once, lambda: progress(next(steps), total))
    seen.failed |= {folder: reason for folder, _, reason in (one.partition(": ") for one in inputs.unreadable)}
    if not seen.found:
        reasons = [f"{name}: {reason}" for name, reason in seen.failed.items()] or ["nothing stands out in them"]
        raise DatasetError(f"none of the images can be annotated; {reasons[0]}")

    ruler = ruler_of(worker.segmenter.card, [one.appearance for one in (*seen.found, *before.found)])
    choices = choose(
        coordinates_of(seen.found, ruler), doubts(seen.found, ruler), n, coordinates_of(before.found, ruler)
    )
    if not choices:
        raise DatasetError(f"{annotated}: all images that could be suggested are the same as annotated ones")
    chosen = [seen.found[choice.index] for choice in choices]
    images = out / IMAGES_FOLDER
    images.mkdir(parents=True, exist_ok=True)
    copies = [_copy(one, config, images, name) for one, name in zip(chosen, _names(chosen), strict=True)]
    table = pd.DataFrame(
        {
            "rank": rank,
            "image": one.name,
            "copy": f"{IMAGES_FOLDER}/{copy.name}",
            "why": _why(one, choice, ruler),
            "expected_ap": one.evidence.expected_ap,
            "novelty": one.evidence.novelty,
            "flags": " ".join(one.flags),
            "n_nuclei": one.n_nuclei,
            "n_alike": choice.n_alike,
            "gain": choice.gain,
        }
        for rank, (one, choice, copy) in enumerate(zip(chosen, choices, copies, strict=True), start=1)
    )
    table.to_csv(out / SUGGESTION_TABLE, index=False, float_format="%.4g")
    _pre_annotate(config, out, lambda: progress(next(steps), total))
    return Suggestions(table, len(seen.found), seen.empty, {**seen.failed, **before.failed})


def _with_truth(datasets: Iterable[Dataset]) -> list[Sample]:
    return [one for dataset in datasets for one in dataset.samples if one.has_truth]


def _annotated_within(folder: Path) -> list[Sample]:
    """Return the images annotated in a folder, without results of nuclei-infer, which nobody may have seen."""
    try:
        datasets = open_folder(folder)
    except DatasetError:  # images without annotations may be called as they like
        return []

    def is_result(name: str) -> bool:
        return any((above / PROVENANCE_FILE).is_file() for above in (folder / name).parents if folder in above.parents)

    return [one for one in _with_truth(datasets) if not any(map(is_result, one.mask_names))]


def coordinates_of(candidates: Sequence[Candidate], ruler: Ruler) -> NDArray[np.float64]:
    """Return where images lie among others, (N, N_COORDINATES)."""
    found = [ruler.coordinates(one.appearance, one.diameter_px) for one in candidates]
    return np.array(found).reshape(-1, N_COORDINATES)


def doubts(candidates: Sequence[Candidate], ruler: Ruler) -> NDArray[np.float64]:
    """Return how much there is to gain in each image; what a model expects counts less if it never saw the like."""
    trusts = [
        (0.0 if one.evidence.expected_ap is None else one.evidence.expected_ap) * ruler.familiarity(one.appearance)
        for one in candidates
    ]
    return doubts_of(np.array(trusts))


def _why(one: Candidate, choice: Choice, ruler: Ruler) -> str:
    """Return in words what speaks for an image."""
    parts = []
    expected_ap = one.evidence.expected_ap
    if expected_ap is not None:
        parts.append(f"about {expected_ap:.0%} of its nuclei are expected to be right")
    alike = counted(choice.n_alike, "other image") if choice.n_alike else "no other image"
    parts.append(f"{alike} {'look' if choice.n_alike > 1 else 'looks'} like it")
    odd = ruler.in_words(one.appearance, one.diameter_px)
    if odd:
        parts.append(f"unlike the training images: {odd}")
    return "; ".join(parts)


def _names(chosen: Sequence[Candidate]) -> list[str]:
    """Return a name for the copy of each image, without its suffix: as in its folder, and unique."""
    names: list[str] = []
    for one in chosen:
        name = (one.file.stem + one.suffix).replace("/", "_")
        while name.casefold() in map(str.casefold, names):
            name += "_"
        names.append(name)
    return names


def _copy(one: Candidate, config: RunConfig, folder: Path, name: str) -> Path:
    """Copy a file that is the image and nothing else; write any other plane as a TIFF."""
    with open_planes(one.file.source, config.selection) as planes:
        plane = planes[one.index]
        image = plane.read(slice(0, plane.shape[0]), slice(0, plane.shape[1]))
    if _is_alone(one.file, image):
        suffix = one.file.path.suffix
        return Path(shutil.copyfile(one.file.path, folder / f"{name.removesuffix(suffix)}{suffix}"))
    copy = folder / f"{name}.tif"
    _write_tiff(copy, image, plane.pixel_size_um)
    return copy


def _is_alone(file: ImageFile, image: Image) -> bool:
    """Whether a training reads this image from the file, when the file is copied."""
    if file.field is not None or len(file.parts) > 1 or not file.path.is_file():
        return False
    try:
        return np.array_equal(read_image(file.path), image)
    except ImageError:  # a stack, or channels of which one was chosen
        return False


def _write_tiff(path: Path, image: Image, pixel_size_um: PixelSize | None) -> None:
    sizes = {} if pixel_size_um is None else {"PhysicalSizeY": pixel_size_um[0], "PhysicalSizeX": pixel_size_um[1]}
    tifffile.imwrite(
        path,
        image.astype(np.uint8) if image.dtype == bool else image,
        ome=True,
        photometric="minisblack" if image.ndim == 2 else "rgb",
        compression="zlib",
        metadata={"axes": "YX" if image.ndim == 2 else "YXS", **sizes},
    )


def _pre_annotate(config: RunConfig, out: Path, advance: Callable[[], None]) -> None:
    """Segment the copies as nuclei-infer does."""
    folders = tuple(output.folder for output in (*LABEL_FORMS, OVERLAYS))
    outputs = OutputOptions(folders)
    run = replace(
        config, sources=(str(out / IMAGES_FOLDER),), out=out / RESULTS_FOLDER, selection=Selection(), outputs=outputs
    )
    with FolderRun(run) as folder_run:
        for _ in folder_run.outcomes():
            advance()
