"""A path for libraries that cannot read from an open file."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO


def native_path(source: BinaryIO | Path, resources: ExitStack, suffix: str) -> Path:
    """Return the path of an image, or of a temporary copy if it is the bytes of a file.

    Parameters
    ----------
    source : BinaryIO or Path
        What an opener receives.
    resources : ExitStack
        Removes the copy.
    suffix : str
        Of the copy, as some libraries look at it.
    """
    if isinstance(source, Path):
        return source
    name = getattr(source, "name", None)
    if isinstance(name, str):
        return Path(name)
    folder = resources.enter_context(TemporaryDirectory(prefix="nuclei-"))
    copy = Path(folder, f"image{suffix}")
    source.seek(0)
    with copy.open("wb") as file:
        shutil.copyfileobj(source, file)
    return copy
