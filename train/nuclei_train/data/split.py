"""Which samples are fitted and which are used for validation."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nuclei_runtime.wording import counted
from nuclei_train.data.samples import Dataset, Sample
from nuclei_train.data.split_table import COLUMNS, SPLIT_FILE, SplitTable
from nuclei_train.errors import DatasetError

SIDES = ("train", "val")
"""The splits of a table that a training reads; it ignores ``test`` and any others."""

RANDOM_SPLIT_WARNING = (
    "There is no splits.csv next to the data and no folder val, so a random {percent:.0f}% of the images is used for "
    "validation. Images of one microscope field often end up on both sides of such a split (in DSB2018, most of the "
    "validation images have a sibling in training), so the validation scores are too good. A table splits.csv with the "
    "columns image_id, split and modality keeps fields together. The run folder contains this split as splits.csv: "
    "copy it next to the data to use the split again and to have nuclei-evaluate score the validation images "
    "separately."
)

START_WARNING = (
    "The weights that this training starts from may have been fitted on some of the images that are now held out, so "
    "their scores may be too good. A table splits.csv with the split of that training keeps them apart."
)


@dataclass(frozen=True)
class Split:
    """A division of the training data.

    Attributes
    ----------
    train, val : tuple of Sample
    source : str
        ``splits.csv``, for a split table of either name, ``folders`` or ``random``.
    digest : str
        SHA-256 of the identifiers on both sides, in hexadecimal.
    """

    train: tuple[Sample, ...]
    val: tuple[Sample, ...]
    source: str
    digest: str


def without_modalities(split: Split, modality: Mapping[str, str], left_out: Collection[str]) -> Split:
    """Return a split without the images of some modalities, on both sides.

    Parameters
    ----------
    split : Split
    modality : mapping of str to str
        By image identifier.
    left_out : collection of str

    Raises
    ------
    DatasetError
        No image has one of the modalities, or one side would be empty.
    """
    found = {modality.get(sample.image_id, "") for sample in (*split.train, *split.val)} - {""}
    missing = set(left_out) - found
    if missing:
        raise DatasetError(
            f"cannot leave out the modality {', '.join(sorted(missing))}: no image has it; expected one of those "
            f"in {SPLIT_FILE}: {', '.join(sorted(found)) or f'none, because there is no {SPLIT_FILE}'}"
        )
    train, val = (
        tuple(sample for sample in side if modality.get(sample.image_id, "") not in left_out)
        for side in (split.train, split.val)
    )
    if not train or not val:
        raise DatasetError(
            f"without {', '.join(sorted(left_out))} there are {counted(len(train), 'image')} to fit and {len(val)} "
            "to validate; expected at least one of each; leave out fewer modalities"
        )
    return replace(split, train=train, val=val)


def select(dataset: Dataset, table: SplitTable | None) -> list[Sample]:
    """Return the samples that a training reads: those with truth and in train or val, or not in a folder ``test``."""
    with_truth = [sample for sample in dataset.samples if sample.has_truth]
    if table is None:
        return [sample for sample in with_truth if sample.split != "test"]
    return [sample for sample in with_truth if table.split.get(sample.image_id) in SIDES]


def split_samples(dataset: Dataset, table: SplitTable | None, seed: int, validation_fraction: float) -> Split:
    """Split by the split table, or at random if there is none, or none for validation.

    Only the table's splits ``train`` and ``val`` are used; ``test`` and any others are ignored.

    Raises
    ------
    DatasetError
        One side would be empty.
    """
    with_truth = select(dataset, table)
    is_given = table is not None and not table.draws_validation
    if table is not None and is_given:
        train = [sample for sample in with_truth if table.split[sample.image_id] == "train"]
        val = [sample for sample in with_truth if table.split[sample.image_id] == "val"]
    else:
        order = np.random.default_rng(seed).permutation(len(with_truth))
        n_val = max(1, round(validation_fraction * len(with_truth)))
        val = [with_truth[index] for index in sorted(order[:n_val])]
        train = [with_truth[index] for index in sorted(order[n_val:])]
    if not train or not val:
        raise DatasetError(
            f"{dataset.path}: {counted(len(train), 'image')} to fit and {len(val)} to validate; expected at least "
            "one of each; "
            + (_what_to_check(dataset, table) if table is not None and is_given else _what_to_add(dataset))
        )
    sides = ["train", *(s.image_id for s in train), "val", *(s.image_id for s in val)]
    digest = hashlib.sha256("\n".join(sides).encode()).hexdigest()
    return Split(tuple(train), tuple(val), table.source if table is not None and is_given else "random", digest)


def _what_to_add(dataset: Dataset) -> str:
    n_test = sum(sample.has_truth and sample.split == "test" for sample in dataset.samples)
    return f"add images with masks (the {n_test} in test are not trained on)" if n_test else "add images with masks"


def _what_to_check(dataset: Dataset, table: SplitTable) -> str:
    if table.source != SPLIT_FILE:
        return "the folders give the split: put images with masks into train and into val"
    if any(sample.image_id in table.split for sample in dataset.samples):
        return f"check the column split of {table.path}"
    return (
        f"check the column image_id of {table.path}: it lists none of the images; the first image is "
        f"{dataset.samples[0].image_id!r}, the first in the table {next(iter(table.split))!r}"
    )


def write_split_table(path: Path, split: Split) -> None:
    """Write a split as a split table with empty modalities."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for side, samples in (("train", split.train), ("val", split.val)):
            writer.writerows([sample.image_id, side, ""] for sample in samples)
