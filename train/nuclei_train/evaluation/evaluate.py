"""DATA and a model -> scores, tables and figures, computed with the same runtime that instruments embed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import numpy as np

from nuclei_runtime.arrays import Labels
from nuclei_runtime.errors import ImageError, NucleiError, ResultsExistError, RuntimeEnvironmentError
from nuclei_runtime.metrics import match, score_pixels
from nuclei_runtime.segmentation.segmenter import Segmenter
from nuclei_runtime.steps.view import View
from nuclei_runtime.wording import counted
from nuclei_train.data.binary_masks import refuse_binary_masks
from nuclei_train.data.modality import guess_modality
from nuclei_train.data.opening import open_with_splits
from nuclei_train.data.samples import Sample, combined_digest
from nuclei_train.errors import DatasetError
from nuclei_train.evaluation.kaggle import read_masks, write_submission
from nuclei_train.evaluation.pictures import Comparison, draw_comparisons
from nuclei_train.evaluation.report import EvaluationReport, Failure, ImageResult, SetReport, write_report
from nuclei_train.evaluation.scores import ImageScores, SetScores, summarise
from nuclei_train.evaluation.sets import EvaluationSet, find_sets

SAMPLE_SEED = 42
SAMPLES_SHOWN = 4
WORST_SHOWN = 10
CAPTION_LENGTH = 24
"""Characters of an identifier that fit above an image."""


@dataclass(frozen=True)
class EvaluationConfig:
    """What nuclei-evaluate was asked to do.

    Attributes
    ----------
    data, out : Path
        DATA and the output folder.
    model : Path or None
        ONNX file; None for the bundled model.
    truth : Path or None
        Kaggle's CSV with truth for samples without masks.
    splits : tuple of str
        Sets or splits to score; all if empty.
    tta : bool
        Whether to use test-time augmentation.
    diameter_px : float, optional
    stain : str, optional
    view : View, optional
        See `nuclei_runtime.Segmenter`.
    """

    data: Path
    out: Path
    model: Path | None
    truth: Path | None
    splits: tuple[str, ...]
    tta: bool = False
    diameter_px: float | None = None
    stain: str | None = None
    view: View | None = None


def evaluate(
    config: EvaluationConfig, say: Callable[[str], None], progress: Callable[[int, int], None]
) -> EvaluationReport:
    """Score a model on every set in DATA and write the report, the tables and the figures.

    A set is a data set or one split of it (see `nuclei_train.evaluation.sets.find_sets`). For sets without truth the
    nuclei are counted and the predictions are written as a Kaggle submission. An image that cannot be read or scored
    becomes one of the report's failures.

    Parameters
    ----------
    config : EvaluationConfig
    say : callable
        Takes a sentence for the user.
    progress : callable
        Takes the number of images done and the total, after each image.

    Raises
    ------
    DatasetError
        DATA, the split table or the truth CSV is not in a known form, or a split does not exist.
    ResultsExistError
        The output folder is not empty.
    ModelError, RuntimeEnvironmentError
        See `nuclei_runtime.model.session.load_session`; or the output folder cannot be written to.
    """
    if config.out.is_dir() and any(config.out.iterdir()):
        raise ResultsExistError(f"{config.out}: not empty; choose a new folder for the results")
    masks = read_masks(config.truth) if config.truth is not None else {}
    datasets, table = open_with_splits(config.data, say)
    sets = find_sets(datasets, table, masks, config.splits)
    for found in sets:
        refuse_binary_masks(found.samples)
    segmenter = Segmenter(
        config.model, tta=config.tta, diameter_px=config.diameter_px, stain=config.stain, view=config.view
    )
    n_images = sum(len(found.samples) for found in sets)
    counter = count(1)
    evaluation = _Evaluation(
        segmenter,
        config.out,
        table.modality if table is not None else {},
        lambda: progress(next(counter), n_images),
    )
    split_digest = table.digest if table is not None else None
    try:
        config.out.mkdir(parents=True, exist_ok=True)
        reports = tuple(evaluation.score_set(found, _file_stem(found, sets)) for found in sets)
        report = EvaluationReport(
            segmenter.card,
            config.tta,
            config.diameter_px,
            config.stain,
            config.view,
            split_digest,
            reports,
            tuple(evaluation.failures),
        )
        write_report(config.out, report)
    except NucleiError:
        raise
    except OSError as error:
        raise RuntimeEnvironmentError(
            f"{config.out}: cannot be written to: {error.strerror or error}; check permissions and space"
        ) from error
    return report


@dataclass(frozen=True)
class _Evaluation:
    """What all sets of one evaluation share."""

    segmenter: Segmenter
    out: Path
    modality: Mapping[str, str]
    advance: Callable[[], None]
    failures: list[Failure] = field(default_factory=list)

    def score_set(self, found: EvaluationSet, stem: str) -> SetReport:
        scored = self._score_images(found)
        if found.has_truth:
            images = [image for image, _ in scored]
            self._draw(found, stem, images)
        else:
            images = []
            write_submission(self.out / f"submission_{stem}.csv", _collecting(scored, images))
        modalities = {image.modality for image in images}
        parts = {name: [image for image in images if image.modality == name] for name in sorted(modalities)}
        return SetReport(
            name=found.name,
            has_truth=found.has_truth,
            digest=combined_digest(image.digest for image in images),
            images=tuple(images),
            scores=_summary(images),
            modalities={name: scores for name, part in parts.items() if (scores := _summary(part)) is not None},
            may_be_fitted=found.may_be_fitted,
        )

    def _score_images(self, found: EvaluationSet) -> Iterator[tuple[ImageResult, Labels]]:
        """Yield the result and the predicted labels of each image; images that fail are recorded."""
        for sample in found.samples:
            try:
                yield self._score_image(found, sample)
            except (ImageError, DatasetError) as error:
                reason = str(error).removeprefix(f"{sample.image_id}: ")
                self.failures.append(Failure(found.name, sample.image_id, reason))
            self.advance()

    def _score_image(self, in_set: EvaluationSet, sample: Sample) -> tuple[ImageResult, Labels]:
        image = sample.read_image()
        truth = in_set.read_truth(sample, image) if in_set.has_truth else None
        found = self.segmenter.segment(image)  # as nuclei-infer does: what is scored is what ships
        scores = None
        if truth is not None:
            (maps,) = self.segmenter.predict([image], view=found.view)
            threshold = self.segmenter.card.postprocessing.kwargs["threshold"]
            scores = ImageScores(match(truth, found.labels), score_pixels(truth > 0, maps[..., 0], threshold))
        modality = self.modality.get(sample.image_id) or guess_modality(image)
        digest = in_set.digest(sample)
        seen = found.view, found.expected_ap, found.flags
        return ImageResult(sample, modality, digest, found.count, *seen, scores), found.labels

    def _draw(self, found: EvaluationSet, stem: str, images: Sequence[ImageResult]) -> None:
        """Draw random images, the worst, and some of each modality; to save memory they are segmented again."""
        if not images:
            return
        chosen = np.sort(np.random.default_rng(SAMPLE_SEED).permutation(len(images))[:SAMPLES_SHOWN])
        ranked = sorted(images, key=lambda image: image.scores.mean_ap if image.scores else 0.0)
        worst = ranked[:WORST_SHOWN]
        for kind, title, shown in (
            (
                "samples",
                f"{len(chosen)} of {counted(len(images), 'image')}, at random",
                [images[index] for index in chosen],
            ),
            ("worst", f"the {counted(len(worst), 'image')} of lowest mean AP", worst),
            ("modalities", "best, median and worst mean AP of each modality", _of_each_modality(ranked)),
        ):
            comparisons = [self._compare(found, image) for image in shown]
            draw_comparisons(self.out / f"{kind}_{stem}.png", f"{found.name}: {title}", comparisons)

    def _compare(self, found: EvaluationSet, result: ImageResult) -> Comparison:
        image = result.sample.read_image()
        truth = found.read_truth(result.sample, image)
        caption = result.sample.image_id
        if len(caption) > CAPTION_LENGTH:
            caption = caption[: CAPTION_LENGTH - 3] + "..."
        caption = f"{result.modality}\n{caption}"
        if result.scores is not None:
            caption += f"\nAP@0.5 {result.scores.ap_50:.2f}, mean AP {result.scores.mean_ap:.2f}"
        return Comparison(caption, image, truth, self.segmenter.segment(image).labels)


def _of_each_modality(ranked: Sequence[ImageResult]) -> list[ImageResult]:
    """Return the best, the median and the worst image of each modality; `ranked` begins with the worst."""
    shown = []
    for modality in sorted({image.modality for image in ranked}):
        part = [image for image in ranked if image.modality == modality]
        shown += [part[index] for index in sorted({0, len(part) // 2, len(part) - 1}, reverse=True)]
    return shown


def _collecting(
    scored: Iterable[tuple[ImageResult, Labels]], images: list[ImageResult]
) -> Iterator[tuple[str, Labels]]:
    for image, labels in scored:
        images.append(image)
        yield image.sample.image_id, labels


def _summary(images: Sequence[ImageResult]) -> SetScores | None:
    scores = [image.scores for image in images if image.scores is not None]
    return summarise(scores) if scores else None


def _file_stem(found: EvaluationSet, sets: Sequence[EvaluationSet]) -> str:
    """Name a set's files after its split, unless another set has a split of the same name."""
    unique = sum(other.split == found.split for other in sets) == 1
    return found.split if unique else found.name.replace("/", "_")
