"""Commands that need data: nuclei-explore, nuclei-train, nuclei-evaluate."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from nuclei_runtime.errors import EnvironmentProblem, ModelError, NucleiError

EXIT_USAGE = 2
EXIT_ENVIRONMENT = 3


def explore_main() -> None:
    """Entry point of nuclei-explore."""
    _run(explore)


def train_main() -> None:
    """Entry point of nuclei-train."""
    _run(train)


def evaluate_main() -> None:
    """Entry point of nuclei-evaluate."""
    _run(evaluate)
