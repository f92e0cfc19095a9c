"""nuclei-report. The docstring of `report` is the help text. Heavy imports are inside the function."""

from __future__ import annotations

from typing import Annotated, NoReturn

import typer

from nuclei_runtime.cli.command import run_command
from nuclei_runtime.cli.progress import print_stderr
from nuclei_runtime.cli.report_options import ConditionsOption
from nuclei_runtime.cli.running import results_at
from nuclei_runtime.stores.remote import RemoteFolder


def main() -> NoReturn:
    """Entry point of nuclei-report."""
    run_command(report)


def report(
    folder: Annotated[
        str,
        typer.Argument(
            metavar="DIR", help="Results folder of nuclei-infer or nuclei-measure, or its URL.", show_default=False
        ),
    ],
    conditions: ConditionsOption = None,
) -> None:
    """Write the report of an earlier run: DIR/report.html, one file that shows all its results in any browser."""
    from nuclei_runtime.report.build import write_report
    from nuclei_runtime.results.conditions import read_conditions
    from nuclei_runtime.results.layout import REPORT_FILE

    results = results_at(folder)
    for note in write_report(results, None if conditions is None else read_conditions(conditions)):
        print_stderr(f"note: {note}")
    print(f"report in {results.at(REPORT_FILE) if isinstance(results, RemoteFolder) else results / REPORT_FILE}")
