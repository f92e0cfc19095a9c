"""Fits the choice of views for an existing model, as nuclei-train does at the end of a run, and writes a new file.

The graph stays as it is; only the card and the sample are new. Example:

    python -m benchmarks.fit_views DATA nuclei.onnx new.onnx --model-version 1.2.0

DATA has a split `val`. For the int8 file of the same network, name the fp32 file as --like, so that both choose alike.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from nuclei_export.export import record_sample, write_model
from nuclei_runtime.checks.sample import sample_path
from nuclei_runtime.errors import NucleiError
from nuclei_runtime.json_fields import canonical_json
from nuclei_runtime.segmentation.segmenter import Segmenter
from nuclei_runtime.steps.view import AS_IT_IS, ViewChoice
from nuclei_train.data.opening import open_with_splits
from nuclei_train.evaluation.sets import find_sets
from nuclei_train.recipes.view_fit import fit_views


def fit(model: Path, data: Path, split: str) -> ViewChoice | None:
    """Fit the choice of views for a model on a split of DATA."""
    datasets, table = open_with_splits(data, lambda sentence: print(sentence, file=sys.stderr))
    segmenter = Segmenter(model, view=AS_IT_IS)
    maps, truths = [], []
    for found in find_sets(datasets, table, {}, (split,)):
        for sample in found.samples:
            image = sample.read_image()
            maps.append(next(segmenter.predict([image])))
            truths.append(found.read_truth(sample, image))
    return fit_views(maps, truths, segmenter.card.postprocessing)


def main(
    data: Annotated[Path, typer.Argument(help="As for nuclei-train.")],
    model: Annotated[Path, typer.Argument(help="The ONNX file to read.")],
    out: Annotated[Path, typer.Argument(help="The ONNX file to write.")],
    model_version: Annotated[str, typer.Option(help="Version in the new card.")],
    split: Annotated[str, typer.Option(help="The split to fit on.")] = "val",
    like: Annotated[Path | None, typer.Option(help="Take the choice from this model's card, and fit nothing.")] = None,
) -> None:
    """Write a model with a choice of views in its card."""
    import onnx

    views = fit(model, data, split) if like is None else Segmenter(like).card.views
    if views is None:
        raise typer.BadParameter("there are too few images, or the other model has no choice of views")
    card = replace(Segmenter(model).card, views=views, version=model_version)
    write_model(onnx.load(model), card, out)
    record_sample(out, sample_path(out))
    print(f"{out}: SHA-256 {Segmenter(out).model_sha256}, views {canonical_json(asdict(views))}")


if __name__ == "__main__":
    try:
        typer.run(main)
    except NucleiError as error:
        sys.exit(str(error))
