"""Writing results: errors of the file system become sentences, and files reach their final names whole."""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nuclei_runtime.errors import NucleiError, ResultsExistError
from nuclei_runtime.faults import is_of_name, machine_error, machine_trouble
from nuclei_runtime.stores.remote import RemoteFolder

MAX_WINDOWS_PATH = 259
"""Characters in a path, unless the system allows more ("Maximum Path Length Limitation", Microsoft)."""

_MOVE_PATIENCE_S = 2.0
"""How long to wait for a virus scanner or an indexer to close a file that was just written."""

KEPT = "results written so far are kept: fix this and run again with --resume"


@contextmanager
def writing(path: Path | RemoteFolder, *, of_one_image: bool = False) -> Iterator[None]:
    """Turn an error of the file system into a sentence.

    Parameters
    ----------
    path : Path or RemoteFolder
        What is written, for the sentence where the error names no file.
    of_one_image : bool
        Whether a name that the file system refuses is the fault of one image.

    Raises
    ------
    ResultsExistError
        With `of_one_image`, for a name that the file system refuses.
    RuntimeEnvironmentError
        For any other error.
    """
    try:
        yield
    except NucleiError:
        raise
    except Exception as found:
        error = found if isinstance(found, OSError) else machine_trouble(found)
        if error is None:
            raise
        where = str(error.filename2 or error.filename or path)
        what = f"{where}: cannot be written{_advice(error, where)}"
        if of_one_image and (is_of_name(error) or _is_too_long(error, where)):
            raise ResultsExistError(f"{what}: {error.strerror or error}") from found
        raise machine_error(error, what, KEPT) from found


def _is_too_long(error: OSError, path: str, platform: str = sys.platform) -> bool:
    """Whether the path is too long for Windows, which says only that it does not exist."""
    return platform == "win32" and isinstance(error, FileNotFoundError) and len(path) > MAX_WINDOWS_PATH


def _advice(error: OSError, path: str, platform: str = sys.platform) -> str:
    """Return what to do, where the error itself does not suggest it."""
    if _is_too_long(error, path, platform):
        return (
            f" (the path has {len(path)} characters, and Windows takes {MAX_WINDOWS_PATH} unless long paths are "
            "enabled; use a results folder with a shorter path)"
        )
    if platform == "win32" and isinstance(error, PermissionError):
        return " (close the file if it is open in another program, such as Excel or an image viewer)"
    return ""


def write_through(path: Path, text: str) -> None:
    """Write a file, with the same bytes on every system, and return when it is on the disk."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def make_folder(folder: Path, *, parents: bool = False) -> None:
    """Make a folder unless it exists, while other workers may remove it as long as it is empty.

    Parameters
    ----------
    folder : Path
    parents : bool
        Whether to make the folders above it too.

    Raises
    ------
    OSError
        The folder cannot be made, for example because a file has its name.
    """
    while True:
        try:
            folder.mkdir(parents=parents, exist_ok=True)
            return
        except FileExistsError:
            # If nothing but folders is there, another worker removed one between two steps of mkdir.
            if any(map(_is_not_a_folder, (folder, *folder.parents))):
                raise


def _is_not_a_folder(path: Path) -> bool:
    try:
        return not stat.S_ISDIR(path.stat().st_mode)
    except FileNotFoundError:
        return path.is_symlink()  # a link that leads nowhere


def move(source: Path, target: Path, *, patience_s: float = _MOVE_PATIENCE_S, platform: str = sys.platform) -> None:
    """Move a file to its final name, on the same file system, in place of what is there.

    The target's folder is made. Another worker may remove it again while it is empty: then it is made once more.
    Windows refuses to move a file that a virus scanner is reading: then it is tried again for a while.

    Raises
    ------
    OSError
        The file cannot be moved.
    """
    until = time.monotonic() + patience_s
    while True:
        try:
            make_folder(target.parent, parents=True)
            source.replace(target)
            return
        except FileNotFoundError:
            if not source.exists() or time.monotonic() > until:
                raise
        except PermissionError:
            if platform != "win32" or time.monotonic() > until:
                raise
        time.sleep(0.01)
