"""Options about summaries and reports, of more than one command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConditionsOption = Annotated[
    Path | None,
    typer.Option(
        "--conditions",
        metavar="TABLE.csv",
        help="A table that assigns each image or well to a condition or patient.",
    ),
]
ReportOption = Annotated[
    bool,
    typer.Option("--report", help="Also write DIR/report.html, a single file that shows all results in a browser."),
]
