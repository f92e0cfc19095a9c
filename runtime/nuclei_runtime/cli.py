"""Commands that need only the runtime: nuclei-infer, nuclei-demo, nuclei-doctor.

The docstrings are the help texts. Heavy imports stay inside the commands.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from nuclei_runtime.commands import EXIT_ENVIRONMENT, EXIT_SOME_FAILED, run_command
from nuclei_runtime.segmenter import DEFAULT_BATCH_SIZE
from nuclei_runtime.session import CPU_PROVIDER

if TYPE_CHECKING:
    from nuclei_runtime.tables import Outcome

EXIT_INTERRUPTED = 130
"""128 + SIGINT, as shells count it."""


def infer_main() -> NoReturn:
    """Entry point of nuclei-infer."""
    run_command(infer)


def demo_main() -> NoReturn:
    """Entry point of nuclei-demo."""
    run_command(demo)


def doctor_main() -> NoReturn:
    """Entry point of nuclei-doctor."""
    run_command(doctor)


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
    provider: Annotated[
        str,
        typer.Option("--provider", metavar="NAME", help="ONNX Runtime execution provider; nuclei-doctor lists them."),
    ] = CPU_PROVIDER,
    threads: Annotated[
        int | None,
        typer.Option("--threads", metavar="N", min=1, help="Processors to use; without it all that are granted."),
    ] = None,
    batch_size: Annotated[
        int, typer.Option("--batch-size", metavar="N", min=1, help="Images that go through the network at once.")
    ] = DEFAULT_BATCH_SIZE,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the results of an earlier run in the same folder.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line and image on standard output, nothing else.")
    ] = False,
) -> None:
    """Find, outline and measure the nuclei in images.

    DIR/overlays: the images with their nuclei outlined, to look at.
    DIR/labels: label images, 0 is background, each nucleus has its number.
    DIR/nuclei.csv: a row a nucleus. DIR/images.csv: a row an image.

    An image that cannot be read is named, and the others go on.

    Exit code: 0 all done, 1 some images failed, 2 wrong usage, 3 model or machine.
    """
    from nuclei_runtime.folder import segment_files
    from nuclei_runtime.inputs import find_images
    from nuclei_runtime.results import ResultWriter
    from nuclei_runtime.segmenter import Segmenter

    inputs = find_images(images, out=out)
    segmenter = Segmenter(model, provider=provider, threads=threads, batch_size=batch_size)
    for folder in inputs.unreadable:
        print(f"failed: {folder}", file=sys.stderr)
    n_images, n_done, n_failed, n_nuclei = len(inputs.files), 0, 0, 0
    try:
        with ResultWriter(out, inputs.files, overwrite=overwrite) as writer:
            for outcome in _with_progress_bar(segment_files(inputs.files, segmenter, writer), n_images):
                if as_json:
                    print(json.dumps(asdict(outcome)), flush=True)
                if outcome.status == "ok":
                    n_done, n_nuclei = n_done + 1, n_nuclei + (outcome.n_nuclei or 0)
                else:
                    n_failed += 1
                    print(f"failed: {outcome.image}: {outcome.reason}", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"stopped: {n_done + n_failed} of {n_images} images are done and stay in {out}", file=sys.stderr)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    if not as_json:
        skipped = f"files skipped that are no images: {inputs.n_skipped}"
        print(f"{n_done} of {n_images} images, {n_nuclei} nuclei, {n_failed} failed; {skipped}")
        print(f"results in {out}: overlays to look at, labels, nuclei.csv, images.csv")
    if n_failed or inputs.unreadable:
        raise typer.Exit(EXIT_SOME_FAILED)


def demo(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that is new or empty.", show_default=False)],
) -> None:
    """Make a folder of images to try nuclei-infer on: one of stained tissue, five synthetic ones with their truth."""
    from nuclei_runtime.demo import write_demo

    images = write_demo(folder)
    print(f"{len(images)} images in {folder / 'images'}, the truth of the synthetic ones in {folder / 'truth'}")
    print(f"next: {subprocess.list2cmdline(['nuclei-infer', str(folder / 'images'), '--out', 'results'])}")


def doctor(
    model: Annotated[
        Path | None,
        typer.Option(
            "--model", metavar="MODEL.onnx", help="ONNX model with its sample beside it; without it the bundled one."
        ),
    ] = None,
) -> None:
    """Show what this machine has, replay the model's sample on it, and say what mends what is wrong.

    Exit code: 0 all is good, 3 something is wrong.
    """
    from nuclei_runtime.doctor import diagnose

    diagnosis = diagnose(model)
    for line in diagnosis.lines:
        print(line)
    for problem in diagnosis.problems:
        print(f"problem: {problem}")
    if diagnosis.problems:
        raise typer.Exit(EXIT_ENVIRONMENT)
    print("OK")


def _with_progress_bar(outcomes: Iterator[Outcome], total: int) -> Iterator[Outcome]:
    """Show a bar on stderr, if that is a terminal."""
    if not sys.stderr.isatty():
        yield from outcomes
        return
    from rich.console import Console
    from rich.progress import Progress

    # Standard output is left alone: it may be a pipe that waits for JSON.
    with Progress(console=Console(stderr=True), transient=True, redirect_stdout=False) as progress:
        yield from progress.track(outcomes, total=total, description="images")
