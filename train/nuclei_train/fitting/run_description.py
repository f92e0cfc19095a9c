"""What run.json says of a run: what it is a run of."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import keras

from nuclei_train.batches.teacher import SHARE, Teacher
from nuclei_train.data.samples import Dataset, combined_digest
from nuclei_train.data.split import Split
from nuclei_train.fitting.start import Start
from nuclei_train.recipes.recipe import Recipe


def defaults_of(recipe: Recipe) -> dict[str, Any]:
    """Return what a run of an earlier version, in which a choice was not there to be made, has made of it."""
    return {"recipe": asdict(type(recipe)())}  # type: ignore[call-overload]  # each recipe is a dataclass


def describe_run(
    recipe: Recipe, dataset: Dataset, split: Split, start: Start | None, teacher: Teacher | None = None
) -> dict[str, Any]:
    """Return what a run is a run of: where any of it differs, no run can go on with it.

    Raises
    ------
    DatasetError
        A file of the samples cannot be read; the message names it.
    """
    return {
        "recipe": asdict(recipe),  # type: ignore[call-overload]  # each recipe is a dataclass
        "backend": keras.backend.backend(),
        "data": {"name": dataset.name, "images": dataset.n_images},
        "split": {
            "source": split.source,
            "digest": split.digest,
            "train": len(split.train),
            "val": len(split.val),
        },
        "data_digests": {
            side: combined_digest(sample.digest() for sample in samples)
            for side, samples in (("train", split.train), ("val", split.val))
        },
        **({"start": {"checkpoint_sha256": start.digest}} if start is not None else {}),
        **({"teacher": {"model_sha256": teacher.digest, "share": SHARE}} if teacher is not None else {}),
    }
