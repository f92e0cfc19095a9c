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
        help="The data: a folder with images and their annotations (label images, GeoJSON, ROIs, COCO JSON), a zip of "
        "one, a folder with such zips, or a file made by nuclei-pack."
    ),
]


def say(sentence: str) -> None:
    """Print a sentence for the user."""
    print(sentence, file=sys.stderr)
