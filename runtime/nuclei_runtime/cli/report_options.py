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
        help="A table that says which image, or which well, belongs to which condition or patient.",
    ),
]
ReportOption = Annotated[
    bool, typer.Option("--report", help="Write DIR/report.html too: one file that shows all results in a browser.")
]
