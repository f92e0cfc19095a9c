"""Commands that need data: nuclei-explore, nuclei-pack, nuclei-train, nuclei-evaluate.

The docstrings are the help texts. Heavy imports stay inside the commands.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from nuclei_runtime.cli.command import EXIT_SOME_FAILED, require_extra, run_command
from nuclei_runtime.steps.scale import MAX_DIAMETER_PX, MIN_DIAMETER_PX
from nuclei_train.fitting.quiet_tensorflow import quiet_tensorflow

EXTRAS = {"pandas": "data", "matplotlib": "data", "tensorflow": "train", "keras": "train", "tensorboard": "train"}
"""The extra that installs a package."""

DataArgument = Annotated[
    Path,
    typer.Argument(help="A folder with Kaggle's zips, one of the zips, what it unpacks to, or nuclei-pack's file."),
]


def explore_main() -> None:
    """Entry point of nuclei-explore."""
    run_command(explore, EXTRAS)


def pack_main() -> None:
    """Entry point of nuclei-pack."""
    run_command(pack, EXTRAS)


def train_main() -> None:
    """Entry point of nuclei-train."""
    run_command(train, EXTRAS)


def evaluate_main() -> None:
    """Entry point of nuclei-evaluate."""
    run_command(evaluate, EXTRAS)


def explore(
    data: DataArgument,
    out: Annotated[
        Path,
        typer.Argument(file_okay=False, help="Folder for tables, figures and what the zips unpack to."),
    ],
) -> None:
    """Tabulate and show a nuclei data set, and list what is odd in it. Zips are unpacked into OUT/data."""
    from rich.console import Console
    from rich.progress import Progress

    from nuclei_runtime.errors import NucleiError
    from nuclei_train.exploration.explore import explore
    from nuclei_train.exploration.summary import format_summary

    try:
        with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as progress:
            task = progress.add_task("exploring images", total=None)
            found = explore(
                data,
                out,
                lambda sentence: print(sentence, file=sys.stderr),
                lambda done, total: progress.update(task, completed=done, total=total),
            )
    except NucleiError:
        raise
    except OSError as error:  # what cannot be read is a NucleiError
        raise typer.BadParameter(f"cannot be written: {error}", param_hint="'out'") from error
    print(format_summary(found.images, found.oddities, found.areas_px))
    print("Written: " + ", ".join(str(file) for file in found.files))


def pack(
    data: DataArgument,
    file: Annotated[Path, typer.Argument(help="The zip to make, outside DATA.")],
) -> None:
    """Pack what nuclei-train reads of DATA into one file, which stands for DATA: the same run, bit for bit."""
    from rich.console import Console
    from rich.progress import Progress

    from nuclei_train.data.pack import pack

    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as progress:
        task = progress.add_task("packing images", total=None)
        packed = pack(data, file, lambda done, total: progress.update(task, completed=done, total=total))
    print(
        f"{file}: {packed.n_images} images, {packed.n_left_out} left out, {packed.size_bytes / 2**20:.1f} MiB, "
        f"SHA-256 {packed.digest}"
    )


def train(
    data: DataArgument,
    run: Annotated[Path, typer.Argument(help="Run folder: checkpoints, curves, logs, run.json.")],
    recipe: Annotated[str, typer.Option(help="What to train, and how: native or baseline.")] = "native",
    epochs: Annotated[int | None, typer.Option(min=1, help="At most so many epochs instead of the recipe's.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a killed run from its last whole epoch.")
    ] = False,
    learning_rate: Annotated[
        float | None, typer.Option(min=1e-9, help="Instead of the recipe's; with --start less is enough.")
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(help="Begin with the weights of this run folder's best checkpoint, or of a .keras or .h5 file."),
    ] = None,
    teacher: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False, help="Learn what this exported model sees with --tta as well, half and half with the truth."
        ),
    ] = None,
) -> None:
    """Build and fit a U-Net. images.csv beside DATA decides which images are fitted and which validate."""
    require_extra("train", "keras", "matplotlib")  # TensorFlow or JAX, as KERAS_BACKEND says
    from nuclei_train.recipes.registry import RECIPES

    if recipe not in RECIPES:
        raise typer.BadParameter(f"found {recipe!r}, expected one of {', '.join(RECIPES)}", param_hint="--recipe")
    with quiet_tensorflow():
        from nuclei_train.fitting.fit import TrainingConfig, train

    chosen = RECIPES[recipe]
    chosen = chosen if epochs is None else replace(chosen, epochs=epochs)
    chosen = chosen if learning_rate is None else replace(chosen, learning_rate=learning_rate)
    result = train(TrainingConfig(data, run, chosen, resume, start, teacher), _TrainingReporter())
    for name, scores in result.scores.items():
        print(f"{name}: " + ", ".join(f"{metric} {value:.4f}" for metric, value in scores.items()))
    print(
        f"{result.epochs} epochs in {result.seconds / 60:.1f} minutes, best epoch {result.best_epoch}; "
        f"next: nuclei-export {run} model.onnx"
    )


class _TrainingReporter:
    """Prints sentences on stderr, and a bar there while images are read, if it is a terminal."""

    def say(self, sentence: str) -> None:
        print(sentence, file=sys.stderr)

    @contextmanager
    def loading(self, total: int) -> Iterator[Callable[[], None]]:
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
            task = progress.add_task("reading images", total=total)
            yield lambda: progress.advance(task)


def evaluate(
    data: DataArgument,
    out: Annotated[Path, typer.Option(file_okay=False, help="New folder for the report and the pictures.")],
    model: Annotated[Path | None, typer.Option(help="ONNX model; without it the bundled one.")] = None,
    truth: Annotated[
        Path | None,
        typer.Option(help="Kaggle's CSV (ImageId, EncodedPixels): truth for images that have no masks."),
    ] = None,
    split: Annotated[
        list[str] | None, typer.Option(help="Score only this set or split, such as val; may be repeated.")
    ] = None,
    tta: Annotated[bool, typer.Option("--tta", help="With test-time augmentation, at five times the work.")] = False,
    diameter: Annotated[
        float | None,
        typer.Option(
            metavar="PX",
            min=MIN_DIAMETER_PX,
            max=MAX_DIAMETER_PX,
            help="As nuclei-infer has it: the median diameter of the nuclei.",
        ),
    ] = None,
) -> None:
    """Score an exported model on every split and truth in DATA. Images without truth become a submission."""
    from rich.console import Console
    from rich.progress import Progress

    from nuclei_train.evaluation.evaluate import EvaluationConfig, evaluate
    from nuclei_train.evaluation.table import format_tables

    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as progress:
        task = progress.add_task("scoring images", total=None)
        report = evaluate(
            EvaluationConfig(data, out, model, truth, tuple(split or ()), tta, diameter),
            lambda done, total: progress.update(task, completed=done, total=total),
        )
    print(format_tables(report))
    print(f"\nReport, scores of each image and pictures: {out}")
    for failure in report.failures:
        print(f"not scored: {failure.set}, {failure.image_id}: {failure.reason}", file=sys.stderr)
    if report.failures:
        raise typer.Exit(EXIT_SOME_FAILED)
