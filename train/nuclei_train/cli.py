"""Commands that need data: nuclei-explore, nuclei-train, nuclei-evaluate.

The docstrings are the help texts. Heavy imports stay inside the commands.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from nuclei_runtime.commands import run_command

DataArgument = Annotated[
    Path, typer.Argument(help="A folder with Kaggle's zips, one of the zips, or the folder it unpacks to.")
]


def explore_main() -> None:
    """Entry point of nuclei-explore."""
    run_command(explore)


def train_main() -> None:
    """Entry point of nuclei-train."""
    run_command(train)


def evaluate_main() -> None:
    """Entry point of nuclei-evaluate."""
    run_command(evaluate)


def explore(
    data: DataArgument,
    out: Annotated[Path, typer.Argument(help="Folder for the table and the figures.")],
) -> None:
    """Tabulate and show a nuclei data set, and list what is odd in it."""


def train(
    data: DataArgument,
    run: Annotated[Path, typer.Argument(help="Run folder: checkpoints, curves, logs, run.json.")],
) -> None:
    """Build and fit a U-Net."""


def evaluate(
    data: DataArgument,
    out: Annotated[Path, typer.Option("--out", help="Folder for the report and the pictures.")],
    model: Annotated[Path | None, typer.Option("--model", help="ONNX model; without it the bundled one.")] = None,
) -> None:
    """Score an exported model on every split and truth in DATA."""
