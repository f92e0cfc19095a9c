"""nuclei-evaluate: the scores of a model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from nuclei_runtime.cli.command import EXIT_SOME_FAILED, StainOption, ViewOption, run_command
from nuclei_runtime.cli.progress import progress_bar
from nuclei_runtime.steps.scale import MAX_DIAMETER_PX, MIN_DIAMETER_PX
from nuclei_train.cli.command import EXTRAS, DataArgument, say


def main() -> None:
    """Entry point of nuclei-evaluate."""
    run_command(evaluate, EXTRAS)


def evaluate(
    data: DataArgument,
    out: Annotated[Path, typer.Option(file_okay=False, help="New folder for the report, the tables and the figures.")],
    model: Annotated[Path | None, typer.Option(help="ONNX model. Default: the bundled model.")] = None,
    truth: Annotated[
        Path | None,
        typer.Option(help="Kaggle's CSV (ImageId, EncodedPixels): ground truth for images without masks."),
    ] = None,
    split: Annotated[
        list[str] | None, typer.Option(help="Score only this data set or split, such as val. Repeat for several.")
    ] = None,
    tta: Annotated[bool, typer.Option("--tta", help="Use test-time augmentation, as nuclei-infer does.")] = False,
    diameter: Annotated[
        float | None,
        typer.Option(
            metavar="PX", min=MIN_DIAMETER_PX, max=MAX_DIAMETER_PX, help="Median diameter, as for nuclei-infer."
        ),
    ] = None,
    stain: StainOption = None,
    view: ViewOption = None,
) -> None:
    """Score an exported model against the truth, for each data set and split in DATA.

    OUT/evaluation.json: all scores. OUT/image_scores.csv: one row per image.

    The figures show image, truth and prediction.

    For data sets without truth, the predictions are written as a Kaggle submission.

    Exit code: 0 all images scored, 1 some images failed, 2 wrong usage, 3 model or machine.
    """
    from nuclei_runtime.steps.view import parse_view
    from nuclei_train.evaluation.evaluate import EvaluationConfig, evaluate
    from nuclei_train.evaluation.table import format_tables

    with progress_bar("scoring images") as update:
        fixed = None if view is None else parse_view(view)
        config = EvaluationConfig(data, out, model, truth, tuple(split or ()), tta, diameter, stain, fixed)
        report = evaluate(config, say, update)
    print(format_tables(report))
    print(f"\nReport, scores of each image and figures: {out}")
    for failure in report.failures:
        print(f"not scored: {failure.set}, {failure.image_id}: {failure.reason}", file=sys.stderr)
    if report.failures:
        raise typer.Exit(EXIT_SOME_FAILED)
