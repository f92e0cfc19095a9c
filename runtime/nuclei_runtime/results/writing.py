"""Writing results: what the file system refuses becomes a sentence, and what must be on the disk is."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nuclei_runtime.errors import NucleiError, ResultsExistError, RuntimeEnvironmentError

_OF_ONE_IMAGE = {errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL, errno.EEXIST, errno.ENOTDIR, errno.EISDIR}
"""Errors of a name that the file system does not take; the next image's may well be taken."""


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
        reason = f"{error.filename or path}: cannot be written: {error.strerror or error}"
        if of_one_image and error.errno in _OF_ONE_IMAGE:
            raise ResultsExistError(reason) from error
        raise RuntimeEnvironmentError(f"{reason}; what was written before stays, and --resume goes on") from error


def write_through(path: Path, text: str) -> None:
    """Write a file so that it is on the disk, and all that was written before it, when the call returns."""
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
