"""Options of the commands that write a results folder: where, with how much memory, and what of earlier results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nuclei_runtime.stores.remote import RemoteFolder
from nuclei_runtime.stores.url import is_url

if TYPE_CHECKING:
    from nuclei_runtime.results.folder import Mode

ImagesArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="IMAGES", help="Images, folders (with subfolders) or globs; or URLs of them.", show_default=False
    ),
]
OutOption = Annotated[
    str, typer.Option("--out", metavar="DIR", help="Folder for the results, or its URL.", show_default=False)
]
MaxMemoryOption = Annotated[
    str | None,
    typer.Option(
        "--max-memory",
        metavar="1GiB",
        help="Memory limit of the process. Default: half of the memory of the computer or container.",
    ),
]
ResumeOption = Annotated[
    bool,
    typer.Option("--resume", help="Continue an earlier run in DIR: skip images that were done with the same options."),
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="First delete the results of an earlier run in DIR.")
]
VerifyOption = Annotated[
    bool,
    typer.Option(
        "--verify", help="Compute everything again and compare it with the results in DIR, without changing them."
    ),
]
JsonOption = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print nothing but JSON to standard output: one object per image or plane, one per line.",
    ),
]


def results_at(out: str) -> Path | RemoteFolder:
    """Return the results folder that a path or a URL names."""
    return RemoteFolder(out) if is_url(out) else Path(out)


def mode_of(*, resume: bool, overwrite: bool) -> Mode:
    """Return what to do if there already are results."""
    return "overwrite" if overwrite else "resume" if resume else "new"


def refuse_together(**options: bool) -> None:
    """Raise `typer.BadParameter` if more than one of these options is given."""
    given = [f"--{name}" for name, is_given in options.items() if is_given]
    if len(given) > 1:
        raise typer.BadParameter(f"{' and '.join(given)} cannot be combined")
