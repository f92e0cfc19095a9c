"""The memory of this process: what it holds, what it may hold by default, and how it gives back what it keeps."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from nuclei_runtime.faults import machine_error
from nuclei_runtime.model.session import release_sessions
from nuclei_runtime.resources import memory_limit_bytes

SHARE = 0.5
"""Share of the memory of the machine or container that a run uses by default. The microscope's own program needs the
rest."""


def default_max_memory() -> int:
    """Return the default ceiling: `SHARE` of the memory of the container or the machine.

    Raises
    ------
    RuntimeEnvironmentError
        See `resident_bytes`.
    """
    with _measuring():
        return int(memory_limit_bytes() * SHARE)


def resident_bytes() -> int:
    """Return the resident memory of this process, with the packages that finding nuclei loads.

    Raises
    ------
    RuntimeEnvironmentError
        The system does not tell: for example, the process may open no more files.
    """
    import psutil
    from skimage.segmentation import watershed  # noqa: F401  # loaded here, so that it counts for the first plane too

    with _measuring():
        return int(psutil.Process().memory_info().rss)


@contextmanager
def _measuring() -> Iterator[None]:
    """Say what an operating system error is about."""
    try:
        yield
    except OSError as error:
        raise machine_error(error, "the memory cannot be measured") from error


def has_room(n_bytes: int, max_memory: int | None) -> bool:
    """Return whether this process may hold so much more; if it is short, what earlier planes left behind is released.

    Parameters
    ----------
    n_bytes : int
    max_memory : int, optional
        Ceiling in bytes for the whole process. Without it, `default_max_memory`.
    """
    ceiling = default_max_memory() if max_memory is None else max_memory
    if resident_bytes() + n_bytes <= ceiling:
        return True
    release_memory()
    return resident_bytes() + n_bytes <= ceiling


def release_memory() -> None:
    """Return the memory that earlier planes left behind to the system.

    ONNX Runtime keeps what its largest tiles needed, and glibc keeps much of what was freed, by ONNX Runtime too, so
    that both have to be asked. This takes about 10 ms, and the next plane has to allocate the memory again.
    """
    release_sessions()
    if sys.platform == "linux":
        with suppress(AttributeError):  # the C library is not glibc
            ctypes.CDLL(None).malloc_trim(0)
