"""Commands that need only the runtime: nuclei-infer, nuclei-demo, nuclei-doctor.

The docstrings are the help texts. Heavy imports stay inside the commands.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from nuclei_runtime.commands import EXIT_ENVIRONMENT, EXIT_SOME_FAILED, run_command

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
        list[str], typer.Argument(help="Images, folders (searched with their subfolders) or globs.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the results.", show_default=False)],
    model: Annotated[
        Path | None, typer.Option("--model", help="ONNX model from nuclei-export; without it the bundled one.")
    ] = None,
    provider: Annotated[
        str, typer.Option("--provider", help="ONNX Runtime execution provider; nuclei-doctor lists them.")
    ] = "CPUExecutionProvider",
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="Processors to use; without it all that are granted.")
    ] = None,
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=1, help="Images that go through the network at once.")
    ] = 4,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the results of an earlier run in the same folder.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line and image on standard output, nothing else.")
    ] = False,
) -> None:
    """Find, outline and measure the nuclei in images.

    Writes DIR/labels (each nucleus has its number), DIR/overlays (outlines to look at), DIR/nuclei.csv (a row a
    nucleus) and DIR/images.csv (a row an image). An image that cannot be read is named and the others go on.

    Exit code: 0 all images are done, 1 some failed, 2 the command is not right, 3 the model or the machine is not.
    """
    from nuclei_runtime.inputs import find_images

    inputs = find_images(images, out=out)
    for problem in inputs.unreadable:
        print(f"failed: {problem}", file=sys.stderr)

    from nuclei_runtime.folder import segment_files
    from nuclei_runtime.results import ResultWriter
    from nuclei_runtime.segmenter import Segmenter

    segmenter = Segmenter(model, provider=provider, threads=threads, batch_size=batch_size)
    n_done = n_failed = n_nuclei = 0
    interrupted = False
    with ResultWriter(out, inputs.files, overwrite=overwrite) as writer:
        try:
            for outcome in _with_progress(segment_files(inputs.files, segmenter, writer), len(inputs.files)):
                if as_json:
                    print(json.dumps(asdict(outcome)), flush=True)
                if outcome.status == "ok":
                    n_done += 1
                    n_nuclei += outcome.n_nuclei or 0
                else:
                    n_failed += 1
                    print(f"failed: {outcome.image}: {outcome.reason}", file=sys.stderr)
        except KeyboardInterrupt:
            interrupted = True
            
    ...
