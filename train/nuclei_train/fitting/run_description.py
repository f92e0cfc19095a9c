"""What run.json says of a run: what defines it, and what an export needs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras

from nuclei_train.batches.teacher import SHARE
from nuclei_train.data.samples import Dataset, Sample, combined_digest
from nuclei_train.fitting.start import BUNDLED, Start
from nuclei_train.recipes.recipe import Recipe, Replay, Sources, TrainedModel


def defaults_of(recipe: Recipe) -> dict[str, Any]:
    """Return the values of settings that a run of an earlier version does not mention, because they did not exist."""
    return {"recipe": asdict(type(recipe)())}  # type: ignore[call-overload]  # each recipe is a dataclass


def describe_run(recipe: Recipe, dataset: Dataset, sources: Sources, start: Start | None) -> dict[str, Any]:
    """Return what defines a run: a run can only be resumed if all of it is the same.

    Raises
    ------
    DatasetError
        A file of a sample cannot be read; the message names it.
    """
    split, teacher, replay = sources.split, sources.teacher, sources.replay
    return {
        "recipe": asdict(recipe),  # type: ignore[call-overload]  # each recipe is a dataclass
        "backend": keras.backend.backend(),
        "data": {
            "name": dataset.name,
            "images": dataset.n_images,
            "modalities_sha256": _modalities_digest((*split.train, *split.val), sources.modality),
        },
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
        **({"replay": _describe_replay(replay)} if replay is not None else {}),
    }


def _describe_replay(replay: Replay) -> dict[str, str]:
    samples = (*replay.train, *replay.val)
    return {
        "data": replay.name,
        "split_sha256": replay.split_digest,
        "images_sha256": combined_digest(sample.digest() for sample in samples),
        "modalities_sha256": _modalities_digest(samples, replay.modality),
    }


def _modalities_digest(samples: Sequence[Sample], modality: Mapping[str, str]) -> str:
    """Return the SHA-256 of the modality of each image, which says how often it is drawn."""
    rows = [f"{sample.image_id}\t{modality.get(sample.image_id, '')}" for sample in samples]
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()


def resumable_paths(paths: Mapping[str, Path | None]) -> dict[str, str]:
    """Return the paths of files that a resumed run needs again, by what they are; only their digests define the run."""
    named = {name: path for name, path in paths.items() if path is not None}
    return {name: str(path if path == BUNDLED else path.resolve()) for name, path in named.items()}


def describe_export(model: TrainedModel, run: dict[str, Any]) -> dict[str, Any]:
    """Return all that an export reads of a run folder; the two packages share no code, only these fields.

    Returns
    -------
    dict
        ``checkpoint``: the file to convert. ``card``: the part of the model card that training knows, in the card's
        vocabulary. ``quantisation``: see `NativeMaterial.save_for_quantisation`; None if the recipe supports no int8.
    """
    versions = ", ".join(f"{name} {number}" for name, number in run["versions"].items())
    provenance = {
        "recipe": run["recipe"]["name"],
        "seed": str(run["recipe"]["seed"]),
        "trained_with": f"{versions}, backend {run['backend']}",
        "training_data": f"{run['data']['name']}, split {run['split']['source']}",
        "training_data_sha256": run["data_digests"]["train"],
        "validation_data_sha256": run["data_digests"]["val"],
        "split_sha256": run["split"]["digest"],
        **({"started_from_sha256": run["start"]["checkpoint_sha256"]} if "start" in run else {}),
        **({"taught_by_sha256": run["teacher"]["model_sha256"]} if "teacher" in run else {}),
        **({"replayed_data": run["replay"]["data"]} if "replay" in run else {}),
    }
    return {
        "checkpoint": model.checkpoint,
        "card": {**model.card, "provenance": provenance},
        "quantisation": model.quantisation,
    }
