"""What the commands of training share."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

EXTRAS = {
    "pandas": "data",
    "matplotlib": "data",
    "tensorflow": "train",
    "keras": "train",
    "tensorboard": "train",
    "optuna": "search",
}
"""The extra that installs a package."""

DataArgument = Annotated[
    Path,
    typer.Argument(
        help="Training data: a folder with images and their annotations (label images, GeoJSON, ROIs, COCO JSON), a "
        "zip of one, a folder with such zips, or a file made by nuclei-pack."
    ),
]

AcceptOdditiesOption = Annotated[
    bool,
    typer.Option(
        "--accept-oddities",
        help="Take the data although they are odd: annotations without an image, objects without an outline, outlines "
        "outside the image, nuclei that cover most of it or are far larger than the model knows.",
    ),
]


def say(sentence: str) -> None:
    """Print a sentence for the user."""
    print(sentence, file=sys.stderr)
