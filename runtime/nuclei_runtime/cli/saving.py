"""Options that say what to write, and how."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from nuclei_runtime.results.table_formats import TableOptions
    from nuclei_runtime.writers.outputs import OutputOptions


class CsvStyleName(StrEnum):
    """How CSV tables are separated."""

    COMMA = "comma"
    SEMICOLON = "semicolon"


SaveOption = Annotated[
    str,
    typer.Option(
        "--save",
        metavar="LIST",
        help="What to write, as a comma-separated list: labels, overlays, table; geojson (QuPath), roi (ImageJ), "
        "ome-zarr, parquet, xlsx (Excel).",
    ),
]
OverlayOption = Annotated[
    str,
    typer.Option(
        "--overlay",
        metavar="LIST",
        help="How to draw overlays, as a comma-separated list: stretched (contrast) or natural, width=PIXELS, "
        "colour=COLUMN, range=LOW:HIGH (of the colours), numbers, scale-bar.",
    ),
]
CsvStyleOption = Annotated[
    CsvStyleName,
    typer.Option(
        "--csv-style",
        help="semicolon: for Excel in languages with decimal commas, such as German. Other programs expect comma.",
    ),
]

DEFAULT_SAVE, DEFAULT_OVERLAY = "labels,overlays,table", "stretched"


def output_options(
    save: str, overlay: str, csv_style: CsvStyleName, expand: str | None = None
) -> tuple[OutputOptions, TableOptions]:
    """Return what to write for each image, and which joined tables.

    Raises
    ------
    InputsError
        An option has a value that it does not take, or has no effect.
    MissingExtraError
        A package that an output needs is not installed.
    """
    from nuclei_runtime.errors import InputsError
    from nuclei_runtime.runs.saving import parse_saved
    from nuclei_runtime.steps.cells import parse_expansion
    from nuclei_runtime.writers.outputs import OVERLAYS
    from nuclei_runtime.writers.overlay_style import parse_overlay_style

    outputs, tables = parse_saved(save)
    style = parse_overlay_style(overlay)
    if style != outputs.overlay and OVERLAYS.folder not in outputs.folders:
        raise InputsError(f"--overlay {overlay}: no overlays are written; add {OVERLAYS.folder} to --save")
    expansion = None if expand is None else parse_expansion(expand)
    return replace(outputs, overlay=style, expansion=expansion), replace(tables, csv_style=csv_style.value)
