"""nuclei-doctor: what this machine has, and whether the model computes here what it should."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NoReturn

import typer

from nuclei_runtime.cli.command import run_command
from nuclei_runtime.errors import RuntimeEnvironmentError


def main() -> NoReturn:
    """Entry point of nuclei-doctor."""
    run_command(doctor)


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
    from nuclei_runtime.checks.doctor import diagnose

    diagnosis = diagnose(model)
    for line in diagnosis.lines:
        print(line)
    for problem in diagnosis.problems:
        print(f"problem: {problem}")
    if diagnosis.problems:
        raise typer.Exit(RuntimeEnvironmentError.exit_code)
    print("OK")
