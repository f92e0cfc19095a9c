"""nuclei-explore: what a data set contains."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nuclei_runtime.cli.command import run_command
from nuclei_runtime.cli.progress import progress_bar
from nuclei_train.cli.command import EXTRAS, DataArgument, say


def main() -> None:
    """Entry point of nuclei-explore."""
    run_command(explore, EXTRAS)


def explore(
    data: DataArgument,
    out: Annotated[
        Path,
        typer.Argument(file_okay=False, help="Folder for the tables, the figures and the unpacked zips."),
    ],
) -> None:
    """Summarise a data set of nuclei in tables and figures, and list its oddities.

    OUT/image_properties.csv: one row per image. OUT/oddities.csv: one row per oddity, such as an empty mask.

    OUT/sample.png and OUT/histograms.png: figures. OUT/data: the unpacked zips, if DATA is or contains zips.
    """
    from nuclei_runtime.errors import NucleiError
    from nuclei_train.exploration.explore import explore
    from nuclei_train.exploration.summary import format_summary

    try:
        with progress_bar("exploring images") as update:
            found = explore(data, out, say, update)
    except NucleiError:
        raise
    except OSError as error:  # errors in reading are NucleiErrors
        raise typer.BadParameter(f"cannot be written: {error}", param_hint="'out'") from error
    print(format_summary(found.images, found.oddities, found.areas_px))
    print("Written: " + ", ".join(str(file) for file in found.files))
