"""What run.json says of a run: what it is a run of, and what its model takes and gives."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.preprocess import CHANNELS
from nuclei_train.dsb2018 import Dataset, combined_digest
from nuclei_train.recipes import Recipe
from nuclei_train.split import Split


def describe_run(recipe: Recipe, dataset: Dataset, split: Split) -> dict[str, Any]:
    """Return what a run is a run of: where any of it differs, no run can go on with it.

    Raises
    ------
    DatasetError
        A file of the samples cannot be read; the message names it.
    """
    return {
        "recipe": asdict(recipe),
        "backend": keras.backend.backend(),
        "data": {"name": dataset.name, "images": len(dataset.samples)},
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
    }


def describe_model(recipe: Recipe, areas_px: NDArray[np.int64]) -> dict[str, Any]:
    """Return the model card's part that only training knows, in the card's own words.

    Parameters
    ----------
    recipe : Recipe
    areas_px : (N,) ndarray of int
        Area of every nucleus that was fitted, in pixels of the original images; at least one.
    """
    return {
        "input": {"name": "image", "height": recipe.size_px, "width": recipe.size_px, "channels": CHANNELS},
        "output": {"name": "foreground"},
        "preprocessing": [asdict(step) for step in recipe.preprocessing],
        "postprocessing": {
            "id": "connected_components",
            "kwargs": {
                "threshold": recipe.threshold,
                # Nothing smaller was ever called a nucleus by those who drew the training masks.
                "min_area_px": int(areas_px.min()),
            },
        },
        "training_nucleus_diameter_px": round(float(np.median(2 * np.sqrt(areas_px / np.pi))), 1),
        "tolerance": recipe.tolerance,
        "description": recipe.description,
        "limitations": list(recipe.limitations),
    }
