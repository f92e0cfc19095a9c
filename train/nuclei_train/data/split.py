"""Which samples are fitted and which validate."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nuclei_train.data.samples import Dataset, Sample
from nuclei_train.data.split_table import COLUMNS, SplitTable
from nuclei_train.errors import DatasetError

RANDOM_SPLIT_WARNING = (
    "No images.csv beside the data: a random {percent:.0f} % of the images validates. Images of one microscope field "
    "often lie on both sides of such a split (in DSB2018, some 79 % of the validation images have a sibling in "
    "training), so the validation scores flatter the model. A table images.csv with the columns image_id, split and "
    "modality keeps fields together. The one in the run folder holds this split: copied beside the data it keeps "
    "it, and nuclei-evaluate then scores the validation images apart."
)

START_WARNING = (
    "The weights that this training starts from may have been fitted on some of the images that now validate: the "
    "validation scores flatter the model. A table images.csv with the split of that training keeps them apart."
)


@dataclass(frozen=True)
class Split:
    """A division of the training data.

    Attributes
    ----------
    train, val : tuple of Sample
    source : str
        ``images.csv`` or ``random``.
    digest : str
        SHA-256 over the identifiers on either side, in hexadecimal.
    """

    train: tuple[Sample, ...]
    val: tuple[Sample, ...]
    source: str
    digest: str


def without_modalities(split: Split, modality: Mapping[str, str], left_out: Collection[str]) -> Split:
    """Return a split without the images of some modalities, on both of its sides.

    Parameters
    ----------
    split : Split
    modality : mapping of str to str
        By image identifier.
    left_out : collection of str

    Raises
    ------
    DatasetError
        A modality is not there, or one side would be empty.
    """
    found = {modality.get(sample.image_id, "") for sample in (*split.train, *split.val)} - {""}
    missing = set(left_out) - found
    if missing:
        raise DatasetError(
            f"no image is of the modality {', '.join(sorted(missing))}, which is to be left out; expected one of "
            f"those in images.csv: {', '.join(sorted(found)) or 'none, for there is no images.csv'}"
        )
    train, val = (
        tuple(sample for sample in side if modality.get(sample.image_id, "") not in left_out)
        for side in (split.train, split.val)
    )
    if not train or not val:
        raise DatasetError(
            f"without {', '.join(sorted(left_out))} there are {len(train)} images to fit and {len(val)} to validate, "
            "expected at least one of each; leave out less"
        )
    return replace(split, train=train, val=val)


def select(dataset: Dataset, table: SplitTable | None) -> list[Sample]:
    """Return the samples that a training reads: those with truth and, where there is a table, of its two splits."""
    with_truth = [sample for sample in dataset.samples if sample.has_truth]
    if table is None:
        return with_truth
    return [sample for sample in with_truth if table.split.get(sample.image_id) in ("train", "val")]


def split_samples(dataset: Dataset, table: SplitTable | None, seed: int, validation_fraction: float) -> Split:
    """Split by images.csv where it exists, else at random.

    With a table only its splits ``train`` and ``val`` are used: ``test`` and any other are left alone.

    Raises
    ------
    DatasetError
        One side would be empty.
    """
    with_truth = select(dataset, table)
    if table is not None:
        train = [sample for sample in with_truth if table.split[sample.image_id] == "train"]
        val = [sample for sample in with_truth if table.split[sample.image_id] == "val"]
    else:
        order = np.random.default_rng(seed).permutation(len(with_truth))
        n_val = max(1, round(validation_fraction * len(with_truth)))
        val = [with_truth[index] for index in sorted(order[:n_val])]
        train = [with_truth[index] for index in sorted(order[n_val:])]
    if not train or not val:
        raise DatasetError(
            f"{dataset.path}: {len(train)} images to fit and {len(val)} to validate, expected at least one of each; "
            + (_what_to_check(dataset, table) if table is not None else "add images with masks")
        )
    sides = ["train", *(s.image_id for s in train), "val", *(s.image_id for s in val)]
    digest = hashlib.sha256("\n".join(sides).encode()).hexdigest()
    return Split(tuple(train), tuple(val), "images.csv" if table is not None else "random", digest)


def _what_to_check(dataset: Dataset, table: SplitTable) -> str:
    if any(sample.image_id in table.split for sample in dataset.samples):
        return f"check the column split of {table.path}"
    return (
        f"check the column image_id of {table.path}: no image is called as what stands there, the first is "
        f"{dataset.samples[0].image_id!r} and the table's first {next(iter(table.split))!r}"
    )


def write_split_table(path: Path, split: Split) -> None:
    """Write a split as a table of the form of images.csv, the modalities empty."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for side, samples in (("train", split.train), ("val", split.val)):
            writer.writerows([sample.image_id, side, ""] for sample in samples)
