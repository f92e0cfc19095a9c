"""Fits what the card of an existing model says about new images, and writes a new file.

These are the choice of views and the score of a nucleus, which nuclei-train fits as well at the end of a run, and what
is ordinary for an image. The graph stays as it is; only the card and the sample are new. Example:

    python -m benchmarks.fit_card DATA nuclei.onnx new.onnx --model-version 1.3.0 --score-too DAPI_ORGANS

DATA has the splits `train`, on which the model was trained, and `val`. For the int8 file of the same network, name the
fp32 file as --like, so that both choose, score and flag alike.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from nuclei_export.export import record_sample, write_model
from nuclei_runtime.arrays import Image, Labels, Maps
from nuclei_runtime.checks.sample import sample_path
from nuclei_runtime.errors import NucleiError
from nuclei_runtime.json_fields import canonical_json
from nuclei_runtime.model.card import ModelCard
from nuclei_runtime.segmentation.segmenter import Segmenter
from nuclei_runtime.steps.flags import FlagLimits
from nuclei_runtime.steps.score import ScoreModel
from nuclei_runtime.steps.view import AS_IT_IS, ViewChoice
from nuclei_train.data.opening import open_with_splits
from nuclei_train.evaluation.sets import find_sets
from nuclei_train.recipes.flag_fit import fit_flags
from nuclei_train.recipes.score_fit import blurred, fit_score
from nuclei_train.recipes.view_fit import fit_views


def images_of(data: Path, split: str) -> Iterator[tuple[Image, Labels]]:
    """Yield the images of a split with their truth."""
    datasets, table = open_with_splits(data, lambda sentence: print(sentence, file=sys.stderr))
    for found in find_sets(datasets, table, {}, (split,)):
        for sample in found.samples:
            image = sample.read_image()
            yield image, found.read_truth(sample, image)


def views_of(model: Path, data: Path) -> ViewChoice | None:
    """Fit how a view is chosen."""
    segmenter = Segmenter(model, view=AS_IT_IS)
    maps, truths = [], []
    for image, truth in images_of(data, "val"):
        maps.append(next(segmenter.predict([image])))
        truths.append(truth)
    return fit_views(maps, truths, segmenter.card.postprocessing)


def score_of(model: Path, data: Sequence[Path], views: ViewChoice) -> ScoreModel | None:
    """Fit how probable it is that a nucleus is right."""
    segmenter = Segmenter(model, view=AS_IT_IS)
    known_px = segmenter.card.training_nucleus_diameter_px
    maps: list[Maps] = []
    truths: list[Labels] = []
    for image, truth in chain.from_iterable(images_of(one, "val") for one in data):
        maps += segmenter.predict([image, blurred(image, known_px)])
        truths += [truth, truth]
    return fit_score(maps, truths, segmenter.card.postprocessing, views)


def flags_of(model: Path, data: Path) -> FlagLimits | None:
    """Fit what is ordinary for an image, with a model that chooses views."""
    segmenter = Segmenter(model)
    return fit_flags(
        *([segmenter.segment(image).evidence for image, _ in images_of(data, split)] for split in ("train", "val"))
    )


def main(
    data: Annotated[Path, typer.Argument(help="As for nuclei-train.")],
    model: Annotated[Path, typer.Argument(help="The ONNX file to read.")],
    out: Annotated[Path, typer.Argument(help="The ONNX file to write.")],
    model_version: Annotated[str, typer.Option(help="Version in the new card.")],
    score_too: Annotated[
        list[Path] | None, typer.Option(help="More data whose split `val`, never trained on, the score is fitted on.")
    ] = None,
    halo_px: Annotated[int | None, typer.Option(help="Halo of the tiles in the new card. Default: as it is.")] = None,
    like: Annotated[Path | None, typer.Option(help="Take all from this model's card, and fit nothing.")] = None,
) -> None:
    """Write a model with a choice of views, a score and flags in its card."""
    import onnx

    card = replace(Segmenter(model).card, version=model_version)
    if halo_px is not None and card.input.tiling is not None:
        card = replace(card, input=replace(card.input, tiling=replace(card.input.tiling, halo_px=halo_px)))
    if like is None:
        views = views_of(model, data)
        score = None if views is None else score_of(model, (data, *(score_too or ())), views)
        card = replace(card, views=views, score=score, flags=None)
        with TemporaryDirectory() as folder:
            chooses = Path(folder, "nuclei.onnx")
            write_model(onnx.load(model), card, chooses)
            card = replace(card, flags=flags_of(chooses, data))
    else:
        card = _like(card, Segmenter(like).card)
    if card.views is None or card.score is None or card.flags is None:
        raise typer.BadParameter("there are too few images, or the other model lacks the views, the score or the flags")
    write_model(onnx.load(model), card, out)
    record_sample(out, sample_path(out))
    fitted = {"views": asdict(card.views), "score": asdict(card.score), "flags": asdict(card.flags)}
    print(f"{out}: SHA-256 {Segmenter(out).model_sha256}, {canonical_json(fitted)}")


def _like(card: ModelCard, other: ModelCard) -> ModelCard:
    return replace(card, views=other.views, score=other.score, flags=other.flags)


if __name__ == "__main__":
    try:
        typer.run(main)
    except NucleiError as error:
        sys.exit(str(error))
