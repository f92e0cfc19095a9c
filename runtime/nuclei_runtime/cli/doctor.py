"""nuclei-doctor: shows what this machine has, and checks that the model gives the right results on it."""

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
            "--model", metavar="MODEL.onnx", help="ONNX model with its sample next to it. Default: the bundled model."
        ),
    ] = None,
) -> None:
    """Show what this machine has, replay the model's sample on it, and say how to fix any problem.

    Exit codes: 0 no problem, 3 a problem was found.
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
