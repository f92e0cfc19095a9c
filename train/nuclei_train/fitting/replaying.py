"""The data that a start was trained on, to be fitted again: opened, and without the images of the training itself."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from nuclei_runtime.wording import counted
from nuclei_train.data.finding import training_set
from nuclei_train.data.layouts.pairing import some
from nuclei_train.data.opening import open_with_splits
from nuclei_train.data.samples import Dataset, Sample
from nuclei_train.data.split import split_samples
from nuclei_train.errors import DatasetError
from nuclei_train.recipes.recipe import Recipe, Replay


def open_replay(path: Path, recipe: Recipe, say: Callable[[str], None]) -> tuple[Dataset, Replay]:
    """Open the data to replay; without a split, all of its images are fitted.

    Raises
    ------
    DatasetError
        See `nuclei_train.data.opening.open_for_training`.
    """
    datasets, table = open_with_splits(path, say)
    dataset = training_set(datasets)
    split = split_samples(dataset, table, recipe.seed, recipe.validation_fraction)
    modality = table.modality if table is not None else {}
    train, val = ((*split.train, *split.val), ()) if split.source == "random" else (split.train, split.val)
    return dataset, Replay(dataset.name, split.digest, train, val, modality)


def without_own(replay: Replay, own: Dataset, say: Callable[[str], None]) -> Replay:
    """Leave out images that are also in the user's own data, whatever their names: a held-out one would be fitted.

    Parameters
    ----------
    replay : Replay
    own : Dataset
        All of its images count, also those of its split ``test``.
    say : callable
        Takes a sentence that names the images that are left out.

    Raises
    ------
    DatasetError
        No image is left to be fitted, or a file cannot be read.
    """
    known = {_image_digest(sample) for sample in own.samples}
    same = [sample for sample in (*replay.train, *replay.val) if _image_digest(sample) in known]
    if not same:
        return replay
    train, val = (tuple(one for one in side if one not in same) for side in (replay.train, replay.val))
    shown = some([sample.image_id for sample in same])
    if not train:
        raise DatasetError(
            f"{replay.name}: every image to replay is also in {own.path} ({shown}); give the data that the starting "
            "weights were trained on, or leave --replay out"
        )
    say(f"{replay.name}: {counted(len(same), 'image')} not replayed because {own.path} contains the same: {shown}")
    return replace(replay, train=train, val=val)


def _image_digest(sample: Sample) -> str:
    return hashlib.sha256(sample.read_file(sample.image_name)).hexdigest()
