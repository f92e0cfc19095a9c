"""Options that say which planes of the files are taken, and what the files do not state."""

from __future__ import annotations

from typing import Annotated

import typer

AxesOption = Annotated[
    str | None,
    typer.Option(
        "--axes",
        metavar="LETTERS",
        help="Order of the dimensions, for files that do not state it: letters from TZCYXS.",
    ),
]
ChannelOption = Annotated[
    str | None,
    typer.Option(
        "--channel",
        metavar="NAME|INDEX|rgb",
        help="The channel to segment, by its name or its index from 0; red, green or blue for one colour of an RGB "
        "image; rgb if three channels are the colours of one picture.",
    ),
]
ZOption = Annotated[
    str | None,
    typer.Option("--z", metavar="each|max", help="For Z stacks: each plane, or the maximum over them."),
]
SceneOption = Annotated[
    str | None,
    typer.Option(
        "--scene", metavar="each|NAME|INDEX", help="For files with several images: each, or one by name or index."
    ),
]
WellOption = Annotated[
    str | None,
    typer.Option("--well", metavar="A01,B*", help="For plates: only these wells, by name or pattern."),
]
FieldOption = Annotated[
    str | None,
    typer.Option("--field", metavar="N,N", help="For plates: only these fields of each well."),
]
LevelOption = Annotated[
    int | None, typer.Option("--level", metavar="N", min=0, help="Use this level of a pyramid. Default: 0, the finest.")
]
MppOption = Annotated[
    float | None,
    typer.Option("--mpp", metavar="UM", help="Use the level whose pixels have about this size, in micrometres."),
]
PixelSizeOption = Annotated[
    float | None,
    typer.Option(
        "--pixel-size",
        metavar="UM",
        help="Micrometres per pixel of files that do not state it, such as PNG. Files that state another size keep "
        "their own, and the column note says so.",
    ),
]
