"""The results of nuclei-evaluate, and the files it writes: evaluation.json and image_scores.csv."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nuclei_runtime.metrics import IOU_THRESHOLDS
from nuclei_runtime.model.card import Evaluation, ModelCard
from nuclei_runtime.steps.flags import Flag, joined
from nuclei_runtime.steps.view import View
from nuclei_train.data.samples import Sample
from nuclei_train.evaluation.scores import (
    BOOTSTRAP_LEVEL,
    BOOTSTRAP_RESAMPLES,
    BOOTSTRAP_SEED,
    ImageScores,
    SetScores,
)

REPORT_FILE = "evaluation.json"
IMAGE_TABLE = "image_scores.csv"
SCHEMA_VERSION = 1

IMAGE_COLUMNS = (
    "set",
    "image_id",
    "modality",
    "n_true",
    "n_predicted",
    "scale",
    "stain",
    "expected_ap",
    "flags",
    "ap_50",
    "mean_ap",
    "f1_50",
    "dice",
    "iou",
    "loss",
    "accuracy",
)


@dataclass(frozen=True)
class ImageResult:
    """The result for one image.

    Attributes
    ----------
    sample : Sample
    modality : str
    digest : str
        SHA-256 of image and truth, in hexadecimal.
    n_predicted : int
    view : View
    expected_ap : float or None
        See `nuclei_runtime.segmentation.result.Segmentation`.
    flags : tuple of Flag
        Why the result may not be trusted.
    scores : ImageScores or None
        None if there is no truth.
    """

    sample: Sample
    modality: str
    digest: str
    n_predicted: int
    view: View
    expected_ap: float | None
    flags: tuple[Flag, ...]
    scores: ImageScores | None


@dataclass(frozen=True)
class Failure:
    """An image that could not be read or scored, and why."""

    set: str
    image_id: str
    reason: str


@dataclass(frozen=True)
class SetReport:
    """One set's results.

    Attributes
    ----------
    name : str
    has_truth : bool
    digest : str
        SHA-256 of the digests of the images in `images`, in hexadecimal; failed images are not included.
    images : tuple of ImageResult
    scores : SetScores or None
        None if there is no truth, or every image failed.
    modalities : dict of str to SetScores
        The same for the images of each modality.
    may_be_fitted : bool
        See `nuclei_train.evaluation.sets.EvaluationSet`.
    """

    name: str
    has_truth: bool
    digest: str
    images: tuple[ImageResult, ...]
    scores: SetScores | None
    modalities: dict[str, SetScores]
    may_be_fitted: bool


@dataclass(frozen=True)
class EvaluationReport:
    """A model's scores on all sets.

    Attributes
    ----------
    card : ModelCard
        Card of the scored model.
    tta : bool
        Whether the model ran with test-time augmentation.
    diameter_px : float or None
    stain : str or None
    view : View or None
        How the model was shown the images, as far as it was fixed; see `nuclei_runtime.Segmenter`.
    split_digest : str or None
        SHA-256 of the split table, in hexadecimal; None if there is none.
    sets : tuple of SetReport
    failures : tuple of Failure
    """

    card: ModelCard
    tta: bool
    diameter_px: float | None
    stain: str | None
    view: View | None
    split_digest: str | None
    sets: tuple[SetReport, ...]
    failures: tuple[Failure, ...]

    def card_evaluation(self) -> list[Evaluation]:
        """Return the scores for the model card, with a caveat if training images may be among those scored."""
        caveat = " (training images may be among them)"
        options = " with --tta" if self.tta else ""
        options += f" with --diameter {self.diameter_px:g}" if self.diameter_px is not None else ""
        options += f" with --stain {self.stain}" if self.stain is not None else ""
        options += f" with --view {self.view}" if self.view is not None else ""
        return [
            Evaluation(report.name + caveat * report.may_be_fitted, report.digest, metric + options, value)
            for report in self.sets
            if report.scores is not None
            for metric, value in (
                ("AP@0.5 pooled", report.scores.ap_50_pooled),
                ("AP@0.5 mean over images", report.scores.ap_50_mean_over_images),
                ("mean AP", report.scores.mean_ap),
                ("F1@0.5 pooled", report.scores.f1_50_pooled),
                ("Dice", report.scores.dice),
                ("pixel accuracy", report.scores.accuracy),
            )
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return the content of evaluation.json.

        - ``schema_version``: 1
        - ``nuclei_edge``: the version that computed the scores
        - ``model``: ``name``, ``version``, ``graph_sha256`` (or null), ``preprocessing``, ``postprocessing``,
          ``training_nucleus_diameter_px`` and ``views`` (or null) of the model's card; the threshold is also used for
          the pixel scores
        - ``test_time_augmentation``: whether the model ran with it
        - ``diameter_px``, ``stain``, ``view``: how the model was shown the images, as far as it was fixed, or null
        - ``split_sha256``: of the split table, or null
        - ``iou_thresholds``: for the lists ``ap_pooled`` and ``ap_mean_over_images``
        - ``bootstrap``: ``level``, ``resamples`` and ``seed`` of the intervals
        - ``sets``: for each set ``name``, ``digest``, ``has_truth``, ``n_images`` and ``n_predicted`` (both without
          failed images), ``scores`` (the fields of `SetScores`, or null) and ``modalities`` (modality: scores)
        - ``failed``: for each image that was not scored, ``set``, ``image_id`` and ``reason``
        - ``card_evaluation``: for each score ``dataset``, ``digest``, ``metric`` and ``value``, the fields of
          `nuclei_runtime.model.card.Evaluation`
        """
        return {
            "schema_version": SCHEMA_VERSION,
            "nuclei_edge": version("nuclei-edge"),
            "model": {
                "name": self.card.name,
                "version": self.card.version,
                "graph_sha256": self.card.provenance.get("graph_sha256"),
                **self.card.method(),
            },
            "test_time_augmentation": self.tta,
            "diameter_px": self.diameter_px,
            "stain": self.stain,
            "view": None if self.view is None else str(self.view),
            "split_sha256": self.split_digest,
            "iou_thresholds": IOU_THRESHOLDS,
            "bootstrap": {
                "level": BOOTSTRAP_LEVEL,
                "resamples": BOOTSTRAP_RESAMPLES,
                "seed": BOOTSTRAP_SEED,
            },
            "sets": [
                {
                    "name": report.name,
                    "digest": report.digest,
                    "has_truth": report.has_truth,
                    "n_images": len(report.images),
                    "n_predicted": sum(image.n_predicted for image in report.images),
                    "scores": None if report.scores is None else asdict(report.scores),
                    "modalities": {name: asdict(scores) for name, scores in report.modalities.items()},
                }
                for report in self.sets
            ],
            "failed": [asdict(failure) for failure in self.failures],
            "card_evaluation": [asdict(score) for score in self.card_evaluation()],
        }


def write_report(folder: Path, report: EvaluationReport) -> None:
    """Write evaluation.json (see `EvaluationReport.to_dict`) and image_scores.csv, one row per image."""
    with (folder / IMAGE_TABLE).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(IMAGE_COLUMNS)
        for found in report.sets:
            writer.writerows(_image_row(found.name, image) for image in found.images)
    text = json.dumps(report.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
    (folder / REPORT_FILE).write_text(text + "\n", encoding="utf-8")


def _image_row(set_name: str, image: ImageResult) -> list[object]:
    first: list[object] = [set_name, image.sample.image_id, image.modality]
    expected = "" if image.expected_ap is None else round(image.expected_ap, 6)
    found: list[object] = [image.n_predicted, round(image.view.scale.factor, 6), image.view.stain, expected]
    found.append(joined(image.flags) or "")
    if image.scores is None:
        return [*first, "", *found, *[""] * (len(IMAGE_COLUMNS) - 9)]
    scores, pixels = image.scores, image.scores.pixels
    values = (
        scores.ap_50,
        scores.mean_ap,
        scores.f1_50,
        pixels.dice,
        pixels.iou,
        pixels.loss,
        pixels.accuracy,
    )
    return [*first, scores.matching.n_true, *found, *(round(value, 6) for value in values)]
