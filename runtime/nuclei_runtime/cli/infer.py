"""nuclei-infer. The docstring is the help text; heavy imports stay inside the command."""

from __future__ import annotations

import signal
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from nuclei_runtime.cli.command import EXIT_SOME_FAILED, StopSignals, printable, run_command
from nuclei_runtime.cli.progress import OutcomeReporter, print_stderr, progress_bar
from nuclei_runtime.model.session import CPU_PROVIDER
from nuclei_runtime.steps.scale import MAX_DIAMETER_PX, MIN_DIAMETER_PX

if TYPE_CHECKING:
    from nuclei_runtime.runs.run import FolderRun, RunConfig


class Precision(StrEnum):
    """Those of the bundled models."""

    FP32 = "fp32"
    INT8 = "int8"


def main() -> NoReturn:
    """Entry point of nuclei-infer."""
    run_command(infer)


def infer(
    images: Annotated[
        list[str],
        typer.Argument(metavar="IMAGES", help="Images, folders (with their subfolders) or globs.", show_default=False),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the results.", show_default=False)],
    model: Annotated[
        Path | None,
        typer.Option(
            "--model", metavar="MODEL.onnx", help="ONNX model from nuclei-export; without it the bundled one."
        ),
    ] = None,
    precision: Annotated[
        Precision,
        typer.Option("--precision", help="Of the bundled model: int8 is faster, and may move an outline by a pixel."),
    ] = Precision.FP32,
    sha256: Annotated[
        str | None, typer.Option("--sha256", metavar="HEX", help="The model's digest; another file is refused.")
    ] = None,
    provider: Annotated[
        str,
        typer.Option("--provider", metavar="NAME", help="ONNX Runtime execution provider; nuclei-doctor lists them."),
    ] = CPU_PROVIDER,
    threads: Annotated[
        int | None,
        typer.Option("--threads", metavar="N", min=1, help="Processors to use; without it all that are granted."),
    ] = None,
    max_memory: Annotated[
        str | None,
        typer.Option("--max-memory", metavar="1GiB", help="What the run may take; without it half of what there is."),
    ] = None,
    tta: Annotated[
        bool, typer.Option("--tta", help="Look at images enlarged as well: for small nuclei, five times the work.")
    ] = False,
    diameter: Annotated[
        float | None,
        typer.Option(
            "--diameter",
            metavar="PX",
            min=MIN_DIAMETER_PX,
            max=MAX_DIAMETER_PX,
            help="Median diameter of the nuclei, where it is far from what the model learned (bundled: 20).",
        ),
    ] = None,
    axes: Annotated[
        str | None,
        typer.Option("--axes", metavar="LETTERS", help="What a file's dimensions are, where it does not say: TZCYXS."),
    ] = None,
    channel: Annotated[
        str | None, typer.Option("--channel", metavar="NAME|INDEX", help="The channel to segment; indices from 0.")
    ] = None,
    z: Annotated[
        str | None, typer.Option("--z", metavar="each|max", help="A Z stack: every plane, or the maximum over them.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an earlier run in DIR; what is whole is not done again.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the results of an earlier run in the same folder.")
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Do all again, compare with what is in DIR, and change nothing there.")
    ] = False,
    shard: Annotated[
        str | None, typer.Option("--shard", metavar="i/n", help="Do one of n shares, for array jobs; i from 1 to n.")
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on with what appears in the folders, until SIGTERM or Ctrl-C.")
    ] = False,
    settle: Annotated[
        float | None,
        typer.Option("--settle", metavar="SECONDS", min=0.1, help="Of --watch: a file that rests so long is complete."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line and image on standard output, nothing else.")
    ] = False,
) -> None:
    """Find, outline and measure the nuclei in images.

    DIR/overlays: the images with their nuclei outlined, to look at.
    DIR/labels: label images, 0 is background, each nucleus has its number.
    DIR/nuclei.csv: a row a nucleus. DIR/images.csv: a row an image.

    An image that cannot be read is named, and the others go on.

    Exit code: 0 all done, 1 some images failed or differ, 2 wrong usage, 3 model or machine, 130 Ctrl-C, 143 SIGTERM.
    """
    from nuclei_runtime.readers.plane import Selection
    from nuclei_runtime.results.shard import WHOLE, parse_shard
    from nuclei_runtime.runs.run import RunConfig
    from nuclei_runtime.segmentation.memory import parse_memory
    from nuclei_runtime.segmentation.options import SegmenterOptions

    _refuse_together(resume=resume, overwrite=overwrite, verify=verify, watch=watch)
    _refuse_together(watch=watch, shard=shard is not None)
    if model is not None and precision is not Precision.FP32:
        raise typer.BadParameter("--precision chooses a bundled model; the file that --model names has its own")
    if settle is not None and not watch:
        raise typer.BadParameter("--settle goes with --watch")
    config = RunConfig(
        sources=tuple(images),
        out=out,
        options=SegmenterOptions(model, precision.value, sha256, provider, threads, tta, diameter),
        max_memory=None if max_memory is None else parse_memory(max_memory),
        selection=Selection(axes, channel, z),
        mode="overwrite" if overwrite else "resume" if resume else "new",
        shard=WHOLE if shard is None else parse_shard(shard),
    )
    if verify:
        _verify(config)
    elif watch:
        _watch(config, settle, as_json=as_json)
    else:
        _segment(config, as_json=as_json)


def _segment(config: RunConfig, *, as_json: bool) -> None:
    from nuclei_runtime.runs.run import FolderRun

    reporter, n_files = OutcomeReporter(as_json=as_json), 0
    run = None
    with StopSignals() as signals:
        try:
            with FolderRun(config) as run:
                n_files = len(run.files)
                for folder in run.inputs.unreadable:
                    print_stderr(f"failed: {folder}")
                with progress_bar("images", n_files) as update:
                    for outcome in run.outcomes():
                        reporter.report(outcome)
                        update(reporter.n_files)
        except KeyboardInterrupt:
            print_stderr(
                "stopped before the first image"
                if run is None
                else f"stopped: {run.n_processed} of {n_files} images are done and stay in {config.out}; "
                "--resume goes on"
            )
            _print_notes(run)
            raise typer.Exit(signals.exit_code) from None
    _print_notes(run)
    if not as_json:
        print(reporter.summary(n_files, run.inputs.n_skipped))
        print(f"results in {config.out}: overlays to look at, labels, nuclei.csv, images.csv")
        if run.joined is None:
            print("nuclei.csv and images.csv come with the last share, or with --resume and no --shard")
    if reporter.n_failed or run.inputs.unreadable:
        raise typer.Exit(EXIT_SOME_FAILED)


def _print_notes(run: FolderRun | None) -> None:
    for note in () if run is None or run.joined is None else run.joined.notes:
        print_stderr(note)


def _watch(config: RunConfig, settle_s: float | None, *, as_json: bool) -> None:
    from nuclei_runtime.runs.watch import DEFAULT_SETTLE_S, watch

    reporter, stop = OutcomeReporter(as_json=as_json), Event()
    # The second signal interrupts: then not even the image in hand is finished.
    with StopSignals(stop) as signals, suppress(KeyboardInterrupt):
        for outcome in watch(config, stop, settle_s=settle_s or DEFAULT_SETTLE_S):
            if isinstance(outcome, str):
                print_stderr(outcome)
            else:
                reporter.report(outcome)
    print_stderr(
        f"stopped: {reporter.n_files} images were done and are in {config.out}, {reporter.n_failed} of them failed"
    )
    if signals.received == signal.SIGINT:
        raise typer.Exit(signals.exit_code)


def _verify(config: RunConfig) -> None:
    from nuclei_runtime.runs.verify import verify

    n_compared, n_different = 0, 0
    for verified in verify(config):
        n_compared, n_different = n_compared + 1, n_different + bool(verified.differences)
        for difference in verified.differences:
            print(printable(f"differs: {verified.name}: {difference}"))
    print(f"{n_compared - n_different} of {n_compared} are as they were: provenance, images and tables")
    if n_different:
        raise typer.Exit(EXIT_SOME_FAILED)


def _refuse_together(**options: bool) -> None:
    given = [f"--{name}" for name, is_given in options.items() if is_given]
    if len(given) > 1:
        raise typer.BadParameter(f"{' and '.join(given)} exclude each other")
