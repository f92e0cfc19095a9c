"""nuclei-infer. The docstring of `infer` is the help text. Heavy imports are inside the functions."""

from __future__ import annotations

import signal
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from nuclei_runtime.cli.command import EXIT_SOME_FAILED, StainOption, StopSignals, ViewOption, printable, run_command
from nuclei_runtime.cli.progress import OutcomeReporter, print_stderr, progress_bar
from nuclei_runtime.cli.selection import (
    AxesOption,
    ChannelOption,
    LevelOption,
    MppOption,
    PixelSizeOption,
    SceneOption,
    ZOption,
)
from nuclei_runtime.model.model_file import is_digest
from nuclei_runtime.model.session import CPU_PROVIDER
from nuclei_runtime.steps.scale import MAX_DIAMETER_PX, MIN_DIAMETER_PX
from nuclei_runtime.wording import counted

if TYPE_CHECKING:
    from nuclei_runtime.runs.run import FolderRun, RunConfig


class Precision(StrEnum):
    """The bundled models."""

    FP32 = "fp32"
    INT8 = "int8"


def main() -> NoReturn:
    """Entry point of nuclei-infer."""
    run_command(infer)


def infer(
    images: Annotated[
        list[str],
        typer.Argument(metavar="IMAGES", help="Images, folders (with subfolders) or globs.", show_default=False),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the results.", show_default=False)],
    model: Annotated[
        Path | None,
        typer.Option(
            "--model", metavar="MODEL.onnx", help="ONNX model written by nuclei-export. Default: the bundled model."
        ),
    ] = None,
    precision: Annotated[
        Precision,
        typer.Option("--precision", help="Bundled model to use. int8 is faster and may shift outlines by a pixel."),
    ] = Precision.FP32,
    sha256: Annotated[
        str | None, typer.Option("--sha256", metavar="HEX", help="Required SHA-256 of the model file.")
    ] = None,
    provider: Annotated[
        str,
        typer.Option("--provider", metavar="NAME", help="ONNX Runtime execution provider. nuclei-doctor lists them."),
    ] = CPU_PROVIDER,
    threads: Annotated[
        int | None,
        typer.Option("--threads", metavar="N", min=1, help="CPU threads. Default: all that are available."),
    ] = None,
    max_memory: Annotated[
        str | None,
        typer.Option("--max-memory", metavar="1GiB", help="Memory limit. Default: half of what is available."),
    ] = None,
    tta: Annotated[
        bool, typer.Option("--tta", help="Test-time augmentation: better for small nuclei, five times slower.")
    ] = False,
    diameter: Annotated[
        float | None,
        typer.Option(
            "--diameter",
            metavar="PX",
            min=MIN_DIAMETER_PX,
            max=MAX_DIAMETER_PX,
            help="Median diameter of the nuclei. Fixes the scale, which is otherwise chosen for each image.",
        ),
    ] = None,
    stain: StainOption = None,
    view: ViewOption = None,
    same_view: Annotated[
        bool,
        typer.Option("--same-view", help="Choose one scale and stain for all images together, as for an experiment."),
    ] = False,
    axes: AxesOption = None,
    channel: ChannelOption = None,
    z: ZOption = None,
    scene: SceneOption = None,
    level: LevelOption = None,
    mpp: MppOption = None,
    pixel_size: PixelSizeOption = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an earlier run in DIR. Complete results are kept.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Delete the results of an earlier run in DIR first.")
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Segment again, compare with the results in DIR, and change nothing there.")
    ] = False,
    shard: Annotated[
        str | None,
        typer.Option("--shard", metavar="i/n", help="Segment only part i of n, for array jobs; i from 1."),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Segment new images as they appear in the folders, until Ctrl-C or SIGTERM.")
    ] = False,
    settle: Annotated[
        float | None,
        typer.Option(
            "--settle",
            metavar="SECONDS",
            min=0.1,
            help="With --watch: time without changes after which a file counts as complete. Default: 3.",
        ),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Print one JSON object per image or plane to standard output, one per line, and nothing else.",
        ),
    ] = False,
) -> None:
    """Find, outline and measure the nuclei in images.

    DIR/overlays: the images with the nuclei outlined, for a visual check.
    DIR/labels: label images; 0 is background, each nucleus has its number.
    DIR/nuclei.csv: one row per nucleus. DIR/images.csv: one row per image or plane.

    An image that cannot be read is reported, and the others are segmented.

    Exit codes: 0 success; 1 some images failed or differ; 2 wrong usage;
    3 a problem with the model or the computer; 130 Ctrl-C; 143 SIGTERM.
    """
    from nuclei_runtime.readers.plane import Selection
    from nuclei_runtime.resources import parse_memory
    from nuclei_runtime.results.shard import WHOLE, parse_shard
    from nuclei_runtime.runs.run import RunConfig
    from nuclei_runtime.segmentation.options import SegmenterOptions
    from nuclei_runtime.steps.view import parse_view

    _refuse_together(resume=resume, overwrite=overwrite, verify=verify, watch=watch)
    _refuse_together(watch=watch, shard=shard is not None)
    if model is not None and precision is not Precision.FP32:
        raise typer.BadParameter("--precision selects a bundled model; the model given by --model has its own")
    if sha256 is not None and not is_digest(sha256):
        raise typer.BadParameter(f"found {sha256!r}, expected 64 hexadecimal digits", param_hint="--sha256")
    if settle is not None and not watch:
        raise typer.BadParameter("--settle needs --watch")
    if view is not None and (diameter is not None or stain is not None or same_view):
        raise typer.BadParameter("--view fixes the scale and the stain; leave out --diameter, --stain and --same-view")
    if same_view and (watch or shard is not None):
        raise typer.BadParameter(
            "--same-view looks at images of the whole run before the first is segmented, which --watch and --shard "
            "cannot; run it on some of the images without these, and give the --view that it names"
        )
    config = RunConfig(
        sources=tuple(images),
        out=out,
        options=SegmenterOptions(
            model,
            precision.value,
            sha256,
            provider,
            threads,
            tta,
            diameter,
            stain,
            None if view is None else parse_view(view),
        ),
        max_memory=None if max_memory is None else parse_memory(max_memory),
        selection=Selection(axes, channel, z, scene, level, mpp, pixel_size),
        mode="overwrite" if overwrite else "resume" if resume else "new",
        shard=WHOLE if shard is None else parse_shard(shard),
        same_view=same_view,
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
                if config.same_view:
                    print_stderr(f"all images are shown in one view: --view {run.worker.segmenter.network.view}")
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
                else f"stopped: {run.n_processed} of {counted(n_files, 'image')} done; results in {config.out}; "
                "--resume continues"
            )
            _print_notes(run)
            raise typer.Exit(signals.exit_code) from None
    _print_notes(run)
    if not as_json:
        print(reporter.summary(n_files, run.inputs.n_skipped, len(run.inputs.unreadable)))
        if reporter.n_doubtful:
            print(f"contrast in doubt: {counted(reporter.n_doubtful, 'image')}; see contrast_warning in images.csv")
        tables = "" if run.joined is None else ", nuclei.csv, images.csv"
        print(f"results in {config.out}: overlays, labels{tables}")
        if run.joined is None:
            print("the last shard writes nuclei.csv and images.csv, or a run with --resume and without --shard")
    if reporter.n_failed or run.inputs.unreadable:
        raise typer.Exit(EXIT_SOME_FAILED)


def _print_notes(run: FolderRun | None) -> None:
    for note in () if run is None or run.joined is None else run.joined.notes:
        print_stderr(note)


def _watch(config: RunConfig, settle_s: float | None, *, as_json: bool) -> None:
    from nuclei_runtime.runs.watch import DEFAULT_SETTLE_S, watch

    reporter, stop = OutcomeReporter(as_json=as_json), Event()
    # The second signal interrupts: then not even the current image is finished.
    with StopSignals(stop) as signals, suppress(KeyboardInterrupt):
        for outcome in watch(config, stop, settle_s=settle_s or DEFAULT_SETTLE_S):
            if isinstance(outcome, str):
                print_stderr(outcome)
            else:
                reporter.report(outcome)
    print_stderr(
        f"stopped: {counted(reporter.n_files, 'image')} done, {reporter.n_failed} of them failed; "
        f"results in {config.out}"
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
    print(f"{n_compared - n_different} of {n_compared} are unchanged (provenance, images and tables)")
    if n_different:
        raise typer.Exit(EXIT_SOME_FAILED)


def _refuse_together(**options: bool) -> None:
    given = [f"--{name}" for name, is_given in options.items() if is_given]
    if len(given) > 1:
        raise typer.BadParameter(f"{' and '.join(given)} cannot be combined")
