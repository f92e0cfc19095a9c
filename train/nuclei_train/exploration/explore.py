"""DATA -> a folder with tables, figures and, if DATA consists of zips, the unpacked zips."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nuclei_train.data.archive import extract_zip
from nuclei_train.data.finding import open_folder
from nuclei_train.data.layouts.places import ROLES
from nuclei_train.data.modality import guess_modality
from nuclei_train.data.oddities import MUCH_LARGER, UNPAIRED, Inspection, inspect_sample, much_larger
from nuclei_train.data.opening import open_with_splits
from nuclei_train.data.samples import Dataset, Sample
from nuclei_train.data.split_table import SPLIT_FILE, SplitTable
from nuclei_train.data.truth import read_with_truth
from nuclei_train.errors import DatasetError
from nuclei_train.exploration.figures import SamplePicture, draw_gallery, draw_histograms

IMAGE_TABLE = "image_properties.csv"
ODDITY_TABLE = "oddities.csv"
SAMPLE_FIGURE = "sample.png"
HISTOGRAM_FIGURE = "histograms.png"
DATA_FOLDER = "data"

SEED = 42
"""Selects the images in the sample figure; the same seed as the baseline recipe's."""

SAMPLES_SHOWN = 8


@dataclass(frozen=True)
class Exploration:
    """What was found in DATA.

    Attributes
    ----------
    images : DataFrame
        One row per image: image_id, dataset, path (relative to the output folder; absolute if DATA is read in place),
        height, width, channels, dtype, modality (from the split table), modality_guess, mean_intensity (of the
        stored values, without alpha), n_nuclei, mean_area_px, median_area_px, foreground_fraction, split (from the
        split table). A cell is empty if the value is unknown: there is no truth, or the image cannot be read.
    oddities : DataFrame
        One row per oddity: image_id (empty if it belongs to no single image), dataset, kind, detail.
    areas_px : ndarray of int
        Area of every nucleus.
    files : tuple of Path
        The tables and figures that were written.
    """

    images: pd.DataFrame
    oddities: pd.DataFrame
    areas_px: NDArray[np.int64]
    files: tuple[Path, ...]


def explore(data: Path, out: Path, say: Callable[[str], None], progress: Callable[[int, int], None]) -> Exploration:
    """Unpack zips, inspect every image and mask, and write tables and figures.

    Parameters
    ----------
    data, out : Path
        DATA, and the output folder. Tables and figures in it are overwritten.
    say : callable
        Takes a sentence for the user.
    progress : callable
        Takes the number of images done and the total, after each image.

    Raises
    ------
    DatasetError
        DATA is not understood, or files written to `out` would later be read as data.
    ArchiveError
        A zip is damaged; the message names the entry.
    """
    datasets, table = open_with_splits(data, say)
    _check_out(data, out, datasets)
    out.mkdir(parents=True, exist_ok=True)
    zips = list(dict.fromkeys(dataset.path for dataset in datasets if dataset.path.is_file()))
    if zips:
        datasets = _unpack(zips, table, out / DATA_FOLDER, say)

    samples = [(dataset, sample) for dataset in datasets for sample in dataset.samples]
    rows: list[dict[str, Any]] = []
    oddities: list[tuple[str, str, str, str]] = []
    areas_of: dict[str, list[int]] = {dataset.name: [] for dataset in datasets}
    for done, (dataset, sample) in enumerate(samples, start=1):
        inspection = inspect_sample(sample, expect_truth=dataset.has_truth or bool(dataset.unpaired))
        path = dataset.path / sample.image_name
        shown = path.relative_to(out).as_posix() if zips else str(path.resolve())
        rows.append(_describe(dataset, sample, shown, inspection, table))
        oddities += [(sample.image_id, dataset.name, o.kind, o.detail) for o in inspection.oddities]
        areas_of[dataset.name] += inspection.areas_px or ()
        progress(done, len(samples))
    for dataset in datasets:
        oddities += [("", dataset.name, UNPAIRED, name) for name in dataset.unpaired]
        if (detail := much_larger(areas_of[dataset.name])) is not None:
            oddities.append(("", dataset.name, MUCH_LARGER, detail))
    areas = [area for its in areas_of.values() for area in its]

    exploration = Exploration(
        pd.DataFrame(rows).astype(dict.fromkeys(("height", "width", "channels", "n_nuclei"), "Int64")),
        pd.DataFrame(oddities, columns=["image_id", "dataset", "kind", "detail"]),
        np.array(areas, np.int64),
        tuple(out / name for name in (IMAGE_TABLE, ODDITY_TABLE, SAMPLE_FIGURE, HISTOGRAM_FIGURE)),
    )
    exploration.images.to_csv(out / IMAGE_TABLE, index=False, float_format="%.6g")
    exploration.oddities.to_csv(out / ODDITY_TABLE, index=False)
    pictures = _pictures([sample for _, sample in samples], exploration.images)
    draw_gallery(out / SAMPLE_FIGURE, list(islice(pictures, SAMPLES_SHOWN)))
    draw_histograms(out / HISTOGRAM_FIGURE, exploration.images, exploration.areas_px)
    return exploration


def _check_out(data: Path, out: Path, datasets: Sequence[Dataset]) -> None:
    """Raise if files written to `out` would be taken for data."""
    place, home = out.resolve(), data.resolve()
    if any(dataset.path.is_file() for dataset in datasets):
        if place / DATA_FOLDER in (home, home.parent):
            raise DatasetError(
                f"{out}: the zips would be unpacked into {out / DATA_FOLDER}, among the data; choose another folder"
            )
        return  # in a folder with zips, only the zips are read
    if home not in place.parents:
        return
    below = f"{place.relative_to(home).as_posix()}/"
    names = (name for d in datasets for s in d.samples for name in (s.image_name, *s.mask_names))
    if place.name in ROLES or any(name.startswith(below) for name in names):
        raise DatasetError(
            f"{out}: is a folder of the data, so what is written there would be read as data; choose another folder"
        )


def _unpack(zips: Sequence[Path], table: SplitTable | None, target: Path, say: Callable[[str], None]) -> list[Dataset]:
    """Unpack each zip into a folder of its name; together with the split table these folders are DATA in turn."""
    datasets: list[Dataset] = []
    target.mkdir(exist_ok=True)
    for path in zips:
        folder = target / path.stem
        unpacked = extract_zip(path, folder)
        say(f"{path.name}: {'unpacked into' if unpacked else 'already unpacked completely into'} {folder}")
        datasets += open_folder(folder)
    if table is not None:
        (target / SPLIT_FILE).write_bytes(table.content)
    return datasets


def _describe(
    dataset: Dataset, sample: Sample, path: str, inspection: Inspection, table: SplitTable | None
) -> dict[str, Any]:
    """Return one row of the table of images."""
    image, areas = inspection.image, inspection.areas_px
    row: dict[str, Any] = {
        "image_id": sample.image_id,
        "dataset": dataset.name,
        "path": path,
        "height": None,
        "width": None,
        "channels": None,
        "dtype": None,
        "modality": (table.modality.get(sample.image_id) or None) if table else None,
        "modality_guess": None,
        "mean_intensity": np.nan,
        "n_nuclei": None if areas is None else len(areas),
        "mean_area_px": np.mean(areas) if areas else np.nan,
        "median_area_px": np.median(areas) if areas else np.nan,
        "foreground_fraction": np.nan,
        "split": table.split.get(sample.image_id) if table else None,
    }
    if image is not None:
        height, width = image.shape[:2]
        row |= {
            "height": height,
            "width": width,
            "channels": image.shape[2] if image.ndim == 3 else 1,
            "dtype": str(image.dtype),
            "modality_guess": guess_modality(image),
            "mean_intensity": float(np.atleast_3d(image)[..., :3].mean()),
            "foreground_fraction": np.nan if areas is None else inspection.foreground_px / (height * width),
        }
    return row


def _pictures(samples: Sequence[Sample], images: pd.DataFrame) -> Iterator[SamplePicture]:
    """Yield readable samples in a seeded random order: those with nuclei, or all if there is no truth at all."""
    drawable = images["modality_guess"].notna()
    with_nuclei = drawable & (images["n_nuclei"].fillna(0) > 0)
    candidates = np.flatnonzero(with_nuclei if with_nuclei.any() else drawable)
    for index in np.random.default_rng(SEED).permutation(candidates):
        sample, row = samples[index], images.iloc[index]
        if with_nuclei.any():
            try:
                image, labels = read_with_truth(sample)
            except DatasetError:
                continue  # one of its masks is listed among the oddities
        else:
            image = sample.read_image()
            labels = np.zeros(image.shape[:2], np.int32)
        modality = row["modality"] if isinstance(row["modality"], str) else row["modality_guess"]
        yield SamplePicture(sample.image_id, modality, image, labels)
