"""nuclei-demo: makes a folder of images to try nuclei-infer on. The docstring of `demo` is the help text."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from nuclei_runtime.cli.command import run_command
from nuclei_runtime.wording import counted


def main() -> NoReturn:
    """Entry point of nuclei-demo."""
    run_command(demo)


def demo(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="New or empty folder.", show_default=False)],
) -> None:
    """Make a folder of images to try nuclei-infer on: one of stained tissue, and five synthetic ones with truth."""
    from nuclei_runtime.checks.demo import write_demo

    images = write_demo(folder)
    print(
        f"{counted(len(images), 'image')} in {folder / 'images'}, the truth of the synthetic ones in {folder / 'truth'}"
    )
    command = ["nuclei-infer", str(folder / "images"), "--out", "results"]
    print(f"next: {subprocess.list2cmdline(command) if sys.platform == 'win32' else shlex.join(command)}")
