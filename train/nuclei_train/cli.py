"""Commands that need data: nuclei-explore, nuclei-pack, nuclei-train, nuclei-evaluate.

The docstrings are the help texts. Heavy imports stay inside the commands.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Annotated

import typer

from nuclei_runtime.cli.command import (
    EXIT_SOME_FAILED,
    StainOption,
    StopSignals,
    ViewOption,
    require_extra,
    run_command,
)
from nuclei_runtime.cli.progress import progress_bar
from nuclei_runtime.steps.scale import MAX_DIAMETER_PX, MIN_DIAMETER_PX
from nuclei_runtime.wording import counted
from nuclei_train.fitting.quiet_tensorflow import quiet_tensorflow
from nuclei_train.fitting.reporter import Reporter

EXTRAS = {"pandas": "data", "matplotlib": "data", "tensorflow": "train", "keras": "train", "tensorboard": "train"}
"""The extra that installs a package."""

DataArgument = Annotated[
    Path,
    typer.Argument(
        help="The data: a folder with images/ and masks/, an unpacked Kaggle zip, a folder with such zips, a zip, or "
        "a file made by nuclei-pack."
    ),
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


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr)


def explore(
    data: DataArgument,
    out: Annotated[
        Path,
        typer.Argument(file_okay=False, help="Folder for the tables, the figures and the unpacked zips."),
    ],
) -> None:
    """Summarise a data set of nuclei in tables and figures, and list its oddities.

    OUT/image_properties.csv: one row per image. OUT/oddities.csv: one row per oddity, such as an empty mask.

    OUT/sample.png and OUT/histograms.png: figures. OUT/data: the unpacked zips, if DATA is or contains zips.
    """
    from nuclei_runtime.errors import NucleiError
    from nuclei_train.exploration.explore import explore
    from nuclei_train.exploration.summary import format_summary

    try:
        with progress_bar("exploring images") as update:
            found = explore(data, out, _say, update)
    except NucleiError:
        raise
    except OSError as error:  # errors in reading are NucleiErrors
        raise typer.BadParameter(f"cannot be written: {error}", param_hint="'out'") from error
    print(format_summary(found.images, found.oddities, found.areas_px))
    print("Written: " + ", ".join(str(file) for file in found.files))


def pack(
    data: Annotated[
        list[Path], typer.Argument(help="The data, as for nuclei-train; several data sets are joined into one.")
    ],
    file: Annotated[Path, typer.Argument(help="The zip to create, outside DATA.")],
) -> None:
    """Pack everything that nuclei-train reads from DATA into one file.

    Training on that file gives the same run as training on DATA, bit for bit.

    With several DATA, the identifier of each image begins with the name of its data set. At least one of them needs a
    split table. The images of one without a table are all fitted.
    """
    from nuclei_train.data.pack import pack

    with progress_bar("packing images") as update:
        packed = pack(data, file, _say, update)
    print(f"{file}: {counted(packed.n_images, 'image')}, {packed.size_bytes / 2**20:.1f} MiB, SHA-256 {packed.digest}")
    for reason, n_images in packed.left_out.items():
        print(f"left out: {counted(n_images, 'image')} {reason}")


def train(
    data: DataArgument,
    run: Annotated[Path, typer.Argument(help="Run folder for checkpoints, curves, logs and run.json.")],
    recipe: Annotated[str | None, typer.Option(help="What to train and how: native (the default) or baseline.")] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Maximum number of epochs, instead of the recipe's.")
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Resume the run after its last complete epoch; it keeps the options it began with."
        ),
    ] = False,
    learning_rate: Annotated[
        float | None, typer.Option(min=1e-9, help="Instead of the recipe's; a lower one suits --start.")
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(help="Begin with the weights of this run folder's best checkpoint, or of a .keras or .h5 file."),
    ] = None,
    teacher: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False,
            help="Knowledge distillation: train on the mean of the truth and what this exported model predicts.",
        ),
    ] = None,
) -> None:
    """Train a U-Net on DATA.

    The table splits.csv in DATA or next to it has the columns image_id, split and modality.

    Images of the split train are fitted, those of val are used for validation.

    Without the table, a random tenth of the images is used for validation.

    Ctrl-C stops the training. The last complete epoch is kept, and --resume continues from there.
    """
    with _stopped_by_signals(data, run) as signals:
        require_extra("train", "keras", "matplotlib")  # with TensorFlow or JAX, as KERAS_BACKEND says
        from nuclei_train.recipes.registry import RECIPES, choose_recipe
        from nuclei_train.run_folder import recorded_run

        if recipe not in (None, *RECIPES):
            raise typer.BadParameter(f"found {recipe!r}, expected one of {', '.join(RECIPES)}", param_hint="--recipe")
        with quiet_tensorflow():
            from nuclei_train.fitting.fit import TrainingConfig, train

        chosen = choose_recipe(recipe, epochs, learning_rate, recorded_run(run) if resume else {})
        result = train(TrainingConfig(data, run, chosen, resume, start, teacher), _CommandLineReporter(signals))
    for name, scores in result.scores.items():
        print(f"{name}: " + ", ".join(f"{metric} {value:.4f}" for metric, value in scores.items()))
    print(
        f"{counted(result.epochs, 'epoch')} in {result.seconds / 60:.1f} minutes, best epoch {result.best_epoch}; "
        f"next: nuclei-export {run} model.onnx"
    )


@contextmanager
def _stopped_by_signals(data: Path, run: Path) -> Iterator[StopSignals]:
    """Let Ctrl-C and SIGTERM end a training with a sentence on what is kept and how to resume it."""
    with StopSignals() as signals:
        try:
            yield signals
        except BaseException as error:
            if not _is_interrupt(error):
                raise
            _say(f"stopped: {_what_is_kept(data, run)}")
            raise typer.Exit(signals.exit_code) from None


def _is_interrupt(error: BaseException | None) -> bool:
    """Whether an error is a KeyboardInterrupt, or what a framework made of one: TensorFlow raises a SystemError."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False


def _what_is_kept(data: Path, run: Path) -> str:
    from nuclei_train.fitting.progress import read_progress
    from nuclei_train.run_folder import STATE_FILE, recorded_run

    if not recorded_run(run):
        return "the run had not begun, and nothing is kept; to begin it, repeat the command"
    n_epochs = read_progress(run / STATE_FILE).epochs_done
    kept = f"epoch {n_epochs} is kept in {run}" if n_epochs else "no epoch was complete"
    return f"{kept}; to resume: nuclei-train {data} {run} --resume"


class _StopRequest(Event):
    """An event that answers at once, because the current batch may take a while: the first one is compiled."""

    def set(self) -> None:
        """Note the request and tell the user."""
        if self.is_set():
            return
        super().set()
        # Not print, which is not reentrant: this runs in a signal handler.
        os.write(sys.stderr.fileno(), b"stopping after this batch; Ctrl-C again stops at once\n")


class _CommandLineReporter(Reporter):
    """Prints sentences and progress on stderr, and stops the training on Ctrl-C or SIGTERM.

    Parameters
    ----------
    signals : StopSignals
        Interrupts whatever is running, except between the batches of an epoch.
    """

    def __init__(self, signals: StopSignals) -> None:
        self._signals = signals

    def say(self, sentence: str) -> None:
        self._check()
        _say(sentence)

    @contextmanager
    def loading(self, total: int) -> Iterator[Callable[[], None]]:
        done = 0

        def advance() -> None:
            nonlocal done
            self._check()
            done += 1
            update(done)

        with progress_bar("reading images", total) as update:
            yield advance

    @contextmanager
    def fitting(self) -> Iterator[Callable[[], bool]]:
        self._check()
        stop = _StopRequest()
        with StopSignals(stop) as signals:
            try:
                yield stop.is_set
            finally:
                self._signals.received = signals.received
        self._check()

    def _check(self) -> None:
        """Interrupt again if a signal came but its KeyboardInterrupt was lost, as it is in a destructor."""
        if self._signals.received is not None:
            raise KeyboardInterrupt


def evaluate(
    data: DataArgument,
    out: Annotated[Path, typer.Option(file_okay=False, help="New folder for the report, the tables and the figures.")],
    model: Annotated[Path | None, typer.Option(help="ONNX model; the default is the bundled model.")] = None,
    truth: Annotated[
        Path | None,
        typer.Option(help="Kaggle's CSV (ImageId, EncodedPixels): the truth for images without masks."),
    ] = None,
    split: Annotated[
        list[str] | None, typer.Option(help="Score only this data set or split, such as val; may be repeated.")
    ] = None,
    tta: Annotated[
        bool, typer.Option("--tta", help="Use test-time augmentation, which takes five times as long.")
    ] = False,
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
        report = evaluate(config, _say, update)
    print(format_tables(report))
    print(f"\nReport, scores of each image and figures: {out}")
    for failure in report.failures:
        print(f"not scored: {failure.set}, {failure.image_id}: {failure.reason}", file=sys.stderr)
    if report.failures:
        raise typer.Exit(EXIT_SOME_FAILED)
