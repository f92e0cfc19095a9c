"""Sets of images with their truth, as the other benchmarks take them: DATA, or DATA:SPLIT for one of its splits.

DATA is as for nuclei-evaluate.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from nuclei_runtime.arrays import Image, Labels
from nuclei_train.data.opening import open_with_splits
from nuclei_train.data.split_table import SplitTable
from nuclei_train.evaluation.sets import EvaluationSet, find_sets


def images_of(name: str) -> Iterator[tuple[str, Image, Labels]]:
    """Yield the images of a set that have a truth: their names, pixels and truth.

    Parameters
    ----------
    name : str
        DATA or DATA:SPLIT.
    """
    for found in open_sets(name)[0]:
        for sample in found.samples:
            image = sample.read_image()
            yield sample.image_id, image, found.read_truth(sample, image)


def open_sets(name: str) -> tuple[list[EvaluationSet], SplitTable | None]:
    """Return what DATA or DATA:SPLIT stands for, as far as it has a truth, and the split table."""
    data, _, split = name.partition(":")
    datasets, table = open_with_splits(Path(data), lambda sentence: print(sentence, file=sys.stderr))
    return [found for found in find_sets(datasets, table, {}, (split,) if split else ()) if found.has_truth], table


def title_of(name: str) -> str:
    """Return what a set is called in a table."""
    data, _, split = name.partition(":")
    return f"{Path(data).name} {split}".strip()
