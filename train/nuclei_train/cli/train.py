"""nuclei-train: from data to a run folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated

import typer

from nuclei_runtime.cli.command import StopSignals, require_extra, run_command
from nuclei_runtime.cli.progress import progress_bar
from nuclei_runtime.wording import counted
from nuclei_train.cli.command import EXTRAS, AcceptOdditiesOption, DataArgument, say
from nuclei_train.cli.searching import recorded_search, run_search, what_is_kept
from nuclei_train.fitting.quiet_tensorflow import quiet_tensorflow
from nuclei_train.fitting.reporter import Reporter

if TYPE_CHECKING:
    from nuclei_train.fine_tuning.run import FineTuningResult


def main() -> None:
    """Entry point of nuclei-train."""
    run_command(train, EXTRAS)


def train(
    data: DataArgument,
    run: Annotated[Path, typer.Argument(help="Run folder for checkpoints, curves, logs and run.json.")],
    recipe: Annotated[
        str | None,
        typer.Option(
            help="What to train and how: native, native-wide, fine-tuning or baseline. Default: native, or fine-tuning "
            "with --start."
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Maximum number of epochs. Default: the recipe's.")] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Resume the run after its last complete epoch, with the options that it was started with."
        ),
    ] = False,
    learning_rate: Annotated[float | None, typer.Option(min=1e-9, help="Default: the recipe's.")] = None,
    start: Annotated[
        Path | None,
        typer.Option(
            help="Begin with the weights of the bundled model (the word bundled), of a run folder's best checkpoint, "
            "or of a .keras or .h5 file. The recipe fine-tuning needs one of the first two."
        ),
    ] = None,
    replay: Annotated[
        Path | None,
        typer.Option(
            help="For fine-tuning: the data that the starting weights were trained on. Half of each batch comes from "
            "it, so that the network does not forget it."
        ),
    ] = None,
    teacher: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False,
            help="Knowledge distillation: train on the masks and on the predictions of this exported model. The better "
            "the predictions for an image, the more they count.",
        ),
    ] = None,
    search: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Train N times with different settings, and keep the best run in RUN/best. For native and "
            "native-wide: learning rate, weight decay, and how strongly images are changed. For baseline: learning "
            "rate and batch size.",
        ),
    ] = None,
    accept_oddities: AcceptOdditiesOption = False,
) -> None:
    """Train a U-Net on DATA, or with --start adapt a trained one to a few images, and report whether it helped.

    The table splits.csv in DATA or next to it has the columns image_id, split and modality.

    The network is trained on the images of the split train and validated on those of val; it never sees others.

    Without the table, folders named train and val give the split. Otherwise a random tenth is used for validation; with
    --start, each image is held out in turn.

    With --search, RUN/trials.csv has one row per training, and RUN/search.png shows them.

    Ctrl-C stops the training. The last complete epoch is kept, and --resume continues from there.
    """
    with _stopped_by_signals(data, run, search) as signals:
        require_extra("train", "keras", "matplotlib")  # with TensorFlow or JAX, as KERAS_BACKEND says
        if search is not None:
            require_extra("search", "optuna")
        from nuclei_train.recipes.fine_tuning import FineTuning
        from nuclei_train.recipes.registry import RECIPES, choose_recipe
        from nuclei_train.run_folder import recorded_run

        if recipe not in (None, *RECIPES):
            raise typer.BadParameter(f"found {recipe!r}, expected one of {', '.join(RECIPES)}", param_hint="--recipe")
        with quiet_tensorflow():
            from nuclei_train.fine_tuning.run import fine_tune
            from nuclei_train.fitting.fit import train
            from nuclei_train.fitting.preparing import TrainingConfig

        recorded = (recorded_run(run) if search is None else recorded_search(run)) if resume else {}
        chosen = choose_recipe(recipe, epochs, learning_rate, recorded, has_start=start is not None)
        config = TrainingConfig(data, run, chosen, resume, start, teacher, accept_oddities, replay)
        reporter = _CommandLineReporter(signals)
        is_fine_tuning = isinstance(chosen, FineTuning)
        if is_fine_tuning and teacher is not None:
            raise typer.BadParameter("--teacher requires --recipe native or native-wide")
        if is_fine_tuning and search is not None:
            raise typer.BadParameter("--search requires --recipe native, native-wide or baseline")
        if replay is not None and not is_fine_tuning:
            raise typer.BadParameter("--replay requires --start and the recipe fine-tuning")
        if search is not None:
            run_search(config, search, reporter)
            return
        if is_fine_tuning:
            _print_outcome(fine_tune(config, reporter), run)
            return
        result = train(config, reporter)
    for name, scores in result.scores.items():
        print(f"{name}: " + ", ".join(f"{metric} {value:.4f}" for metric, value in scores.items()))
    print(
        f"{counted(result.epochs, 'epoch')} in {result.seconds / 60:.1f} minutes, best epoch {result.best_epoch}; "
        f"next: nuclei-export {run} model.onnx"
    )


def _print_outcome(result: FineTuningResult, run: Path) -> None:
    from nuclei_train.fine_tuning.report import REPORT_FILE

    outcome = result.outcome
    for sentence in outcome.sentences:
        print(sentence)
    following = f"; next: nuclei-export {run} model.onnx" if outcome.epochs else ""
    print(f"{result.seconds / 60:.1f} minutes; report: {run / REPORT_FILE}{following}")


@contextmanager
def _stopped_by_signals(data: Path, run: Path, search: int | None) -> Iterator[StopSignals]:
    """Let Ctrl-C and SIGTERM end a training with a sentence on what is kept and how to resume it."""
    with StopSignals() as signals:
        try:
            yield signals
        except BaseException as error:
            if not _is_interrupt(error):
                raise
            say(f"stopped: {_what_is_kept(data, run) if search is None else what_is_kept(data, run, search)}")
            raise typer.Exit(signals.exit_code) from None


def _is_interrupt(error: BaseException | None) -> bool:
    """Whether an error is a KeyboardInterrupt, or what a framework made of one: TensorFlow raises a SystemError."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False


def _what_is_kept(data: Path, run: Path) -> str:
    from nuclei_train.fine_tuning.run import rounds_done
    from nuclei_train.fitting.progress import read_progress
    from nuclei_train.run_folder import STATE_FILE, recorded_run

    if not recorded_run(run):
        return "the run had not begun, and nothing is kept; to begin it, repeat the command"
    n_epochs, n_rounds = read_progress(run / STATE_FILE).epochs_done, rounds_done(run)
    kept = f"epoch {n_epochs} is kept in {run}" if n_epochs else "no epoch was complete"
    if n_rounds:
        kept = f"{counted(n_rounds, 'round')} {'is' if n_rounds == 1 else 'are'} kept in {run}"
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
        say(sentence)

    @contextmanager
    def checking(self, total: int) -> Iterator[Callable[[], None]]:
        with self._counting("checking masks", total) as advance:
            yield advance

    @contextmanager
    def loading(self, total: int) -> Iterator[Callable[[], None]]:
        with self._counting("reading images", total) as advance:
            yield advance

    @contextmanager
    def _counting(self, what: str, total: int) -> Iterator[Callable[[], None]]:
        done = 0

        def advance() -> None:
            nonlocal done
            self._check()
            done += 1
            update(done)

        with progress_bar(what, total) as update:
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
