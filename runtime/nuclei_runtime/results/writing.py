"""Writing results: what the file system refuses becomes a sentence, and what must be on the disk is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nuclei_runtime.errors import NucleiError, ResultsExistError
from nuclei_runtime.faults import is_of_name, machine_error

KEPT = "results written so far are kept: fix this and run again with --resume"


@contextmanager
def writing(path: Path, *, of_one_image: bool = False) -> Iterator[None]:
    """Turn an error of the file system into a sentence.

    Parameters
    ----------
    path : Path
        What is written, for the sentence where the error names no file.
    of_one_image : bool
        A name that the file system does not take is the image's fault alone.
    """
    try:
        yield
    except NucleiError:
        raise
    except OSError as error:
        what = f"{error.filename or path}: cannot be written"
        if of_one_image and is_of_name(error):
            raise ResultsExistError(f"{what}: {error.strerror or error}") from error
        raise machine_error(error, what, KEPT) from error


def write_through(path: Path, text: str) -> None:
    """Write a file so that it is on the disk, and all that was written before it, when the call returns."""
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
