"""Local folders for what comes from stores and goes there."""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

import psutil

_START = "nuclei-scratch-"


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Make a folder among the system's temporary ones, and remove it at the end.

    The first one of a process also removes those of processes of this machine that were killed: otherwise workers that
    are killed again and again would fill the disk.
    """
    _remove_leftovers(Path(gettempdir()))
    with TemporaryDirectory(prefix=f"{_prefix(os.getpid())}-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _prefix(process: int) -> str | None:
    """Return how the names of a process's folders begin; None if it does not live. Numbers of processes are reused."""
    began = _began(process)
    return None if began is None else f"{_START}{_machine()}-{process}-{began}"


def _began(process: int) -> int | None:
    """Return when a process began, in a unit of this system; None if it does not live. It is the same at any time."""
    if platform.system() == "Linux":
        # Since boot, in clock ticks: proc_pid_stat(5), field 22; the name before may contain spaces and parentheses.
        # psutil adds the time of boot, which is another one after the clock was set.
        try:
            return int(Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()[19])
        except OSError:
            return None
    try:
        return round(psutil.Process(process).create_time() * 1000)
    except psutil.Error:
        return None


def _machine() -> str:
    return re.sub(r"[^A-Za-z0-9]", "", platform.node())


@cache
def _remove_leftovers(temporary: Path) -> None:
    pattern = re.compile(rf"{_START}{_machine()}-(\d+)-\d+-[^-]*")
    with os.scandir(temporary) as entries:
        names = [entry.name for entry in entries if pattern.fullmatch(entry.name)]
    for name in names:
        process = int(name.removeprefix(f"{_START}{_machine()}-").partition("-")[0])
        if not name.startswith(f"{_prefix(process)}-"):
            shutil.rmtree(temporary / name, ignore_errors=True)
