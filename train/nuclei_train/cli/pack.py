"""nuclei-pack: a data set, or several, as one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nuclei_runtime.cli.command import run_command
from nuclei_runtime.cli.progress import progress_bar
from nuclei_runtime.wording import counted
from nuclei_train.cli.command import EXTRAS, AcceptOdditiesOption, say


def main() -> None:
    """Entry point of nuclei-pack."""
    run_command(pack, EXTRAS)


def pack(
    data: Annotated[
        list[Path], typer.Argument(help="Training data, as for nuclei-train. Several data sets are joined into one.")
    ],
    file: Annotated[Path, typer.Argument(help="The zip to create, outside DATA.")],
    accept_oddities: AcceptOdditiesOption = False,
) -> None:
    """Pack everything that nuclei-train reads from DATA into one file.

    Training on that file gives the same run as training on DATA, bit for bit.

    With several DATA, the identifier of each image begins with the name of its data set. At least one of them needs a
    split table. The images of one without a table are all fitted.
    """
    from nuclei_train.data.pack import pack

    with progress_bar("packing images") as update:
        packed = pack(data, file, say, update, accept_oddities=accept_oddities)
    print(f"{file}: {counted(packed.n_images, 'image')}, {packed.size_bytes / 2**20:.1f} MiB, SHA-256 {packed.digest}")
    for reason, n_images in packed.left_out.items():
        print(f"left out: {counted(n_images, 'image')} {reason}")
