"""Options that say which nuclei are kept and what is measured of them."""

from __future__ import annotations

from typing import Annotated

import typer

ExcludeBorderOption = Annotated[
    bool,
    typer.Option("--exclude-border", help="Leave out nuclei that touch the edge of the image, which may cut them."),
]
MeasureOption = Annotated[
    str | None,
    typer.Option(
        "--measure",
        metavar="all|NAME[,NAME...]",
        help="Measure intensities in these channels too, by name or by index from 0. The channel that is "
        "segmented is always measured.",
    ),
]
ExpandOption = Annotated[
    str | None,
    typer.Option(
        "--expand",
        metavar="3um|12px",
        help="Grow each nucleus into a cell by this distance, without overlap, and measure intensities in the cell and "
        "in the ring around the nucleus. Writes DIR/cells, label images.",
    ),
]
MinAreaOption = Annotated[
    str | None,
    typer.Option("--min-area", metavar="50px|30um2", help="Leave out nuclei smaller than this."),
]
MinScoreOption = Annotated[
    float | None,
    typer.Option(
        "--min-score", metavar="P", min=0, max=1, help="Leave out nuclei with a score lower than this, 0 to 1."
    ),
]
MaxAreaOption = Annotated[
    str | None,
    typer.Option("--max-area", metavar="900px|400um2", help="Leave out nuclei larger than this."),
]
