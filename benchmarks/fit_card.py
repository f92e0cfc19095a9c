"""Fit again what a run folder says about new images: the choice of views, the score of a nucleus, and the flags.

nuclei-train fits all three at the end of a run. This is for runs of versions that did not yet, and for the mean of
several runs (`benchmarks.mean_of_runs`). Only run.json changes; export the run again afterwards.

    python -m benchmarks.fit_card DATA RUN

The choice of views and the score are fitted to the split `val` of DATA, what is ordinary for an image to `train` as
well.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from benchmarks.sets import images_of
from nuclei_export.export import ExportConfig, export
from nuclei_runtime.arrays import Labels, Maps
from nuclei_runtime.errors import NucleiError
from nuclei_runtime.segmentation.segmenter import Segmenter
from nuclei_runtime.steps.flags import FlagLimits
from nuclei_runtime.steps.score import ScoreModel
from nuclei_runtime.steps.view import AS_IT_IS
from nuclei_runtime.steps.view_choice import ViewChoice
from nuclei_train.fitting.quiet_tensorflow import quiet_tensorflow
from nuclei_train.recipes.flag_fit import fit_flags
from nuclei_train.recipes.score_fit import blurred, fit_score
from nuclei_train.recipes.view_fit import fit_views
from nuclei_train.run_folder import read_run, write_run


def views_and_score_of(model: Path, data: Path) -> tuple[ViewChoice, ScoreModel]:
    """Fit how a view is chosen, and how probable it is that a nucleus is right."""
    segmenter = Segmenter(model, view=AS_IT_IS)
    method, known_px = segmenter.card.postprocessing, segmenter.card.training_nucleus_diameter_px
    maps: list[Maps] = []
    copies: list[Maps] = []
    truths: list[Labels] = []
    for _, image, truth in images_of(f"{data}:val"):
        seen, seen_blurred = segmenter.predict([image, blurred(image, known_px)])
        maps.append(seen)
        copies.append(seen_blurred)
        truths.append(truth)
    views = fit_views(maps, truths, method)
    score = None if views is None else fit_score([*maps, *copies], [*truths, *truths], method, views)
    if views is None or score is None:
        raise typer.BadParameter("the split `val` has too few images or nuclei")
    return views, score


def flags_of(model: Path, data: Path) -> FlagLimits:
    """Fit what is ordinary for an image, with a model that chooses views."""
    segmenter = Segmenter(model)
    flags = fit_flags(
        *(
            [segmenter.segment(image).evidence for _, image, _ in images_of(f"{data}:{split}")]
            for split in ("train", "val")
        )
    )
    if flags is None:
        raise typer.BadParameter("the splits `train` and `val` have too few images")
    return flags


def write_in_card(run: Path, fields: Mapping[str, Any]) -> None:
    """Replace fields of the card that run.json describes."""
    described = read_run(run)
    described["export"]["card"] |= fields
    write_run(run, described)


def main(
    data: Annotated[Path, typer.Argument(help="As for nuclei-train.")],
    run: Annotated[Path, typer.Argument(help="The run folder.")],
) -> None:
    """Fit the choice of views, the score and the flags of a run."""
    with TemporaryDirectory() as folder:
        model = Path(folder, "nuclei.onnx")
        config = ExportConfig(run, model, opset=18, name="fitted", version="0", license="BSD-3-Clause", evaluation=None)
        with quiet_tensorflow():
            export(config)
        views, score = views_and_score_of(model, data)
        write_in_card(run, {"views": asdict(views), "score": asdict(score)})
        with quiet_tensorflow():
            export(config)
        write_in_card(run, {"flags": asdict(flags_of(model, data))})


if __name__ == "__main__":
    try:
        typer.run(main)
    except NucleiError as error:
        sys.exit(str(error))
