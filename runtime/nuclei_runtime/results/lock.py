"""Allows one process per shard of a results folder, by a lock that the system releases when the process ends.

A run that resumes removes what a killed run left unfinished. It must not do that to a run that is still alive.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from weakref import finalize

from nuclei_runtime.errors import ResultsInUseError
from nuclei_runtime.results.shard import Shard

_PATIENCE_S = 1.0
"""How long to wait for a process that is about to end."""

_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
"""Keeps the lock file from being created through a link; Windows has no such flag."""

_IS_HELD = {errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK, errno.EDEADLK}


@dataclass(frozen=True)
class LockFile:
    """The lock file as its holder found it. It can be pickled, so that worker processes can check it too.

    Attributes
    ----------
    path : Path
    identity : (int, int), optional
        Device and inode. None on file systems that give a file another inode each time.
    """

    path: Path
    identity: tuple[int, int] | None

    @property
    def is_in_place(self) -> bool:
        """Whether the results folder is still the locked one: not moved away, no other folder in its place."""
        found = _identity(self.path)
        return found is not None and self.identity in (None, found)

    def for_other_machines(self) -> LockFile:
        """Return the file as other machines see it: they number devices and inodes of a network share differently."""
        return replace(self, path=self.path.absolute(), identity=None)


class ResultsLock:
    """Keeps other living processes away from a shard of a results folder, until `release`.

    Shards of the same count have no image in common. Shards of different counts may, and so may a shard and a run
    without shards. On file systems without locks, every process is admitted, because other ones cannot be detected.

    Parameters
    ----------
    out : Path
        The results folder.
    shard : Shard

    Attributes
    ----------
    file : LockFile

    Raises
    ------
    ResultsInUseError
        Another process is using the shard.
    OSError
        The folder cannot be written to.
    """

    def __init__(self, out: Path, shard: Shard) -> None:
        self.file, descriptor = _open_locked(out, shard)
        self._close = finalize(self, os.close, descriptor)  # also where a run is dropped without being closed
        try:
            # After taking one's own: of two processes that start at once, at least one sees the other and gives way.
            for other in _overlapping(out, shard):
                file, descriptor = _open_locked(out, other)  # a killed process left it
                _release(file, partial(os.close, descriptor))
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Release the shard."""
        if self._close.alive:
            _release(self.file, self._close)


def _open_locked(out: Path, shard: Shard) -> tuple[LockFile, int]:
    """Open and lock the lock file of a shard; return it with its descriptor."""
    path = out / shard.lock_name
    until = time.monotonic() + _PATIENCE_S
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _NO_LINK, 0o666)
        except PermissionError as error:
            if sys.platform == "win32" and time.monotonic() <= until:  # the process that held it is removing it
                time.sleep(0.02)
                continue
            if not path.exists():
                raise
            raise ResultsInUseError(
                f"{out}: another user's process is or was using this folder; if none is running, have {path} removed"
            ) from error
        is_free, is_late = _try_lock(descriptor), time.monotonic() > until
        status = os.fstat(descriptor)
        identity = (status.st_dev, status.st_ino)
        # The process that held the file may have removed it between opening and locking: try again. Not for ever,
        # because on some file systems a file never has the same inode twice.
        is_same = _identity(path) == identity
        if is_free and (is_same or is_late):
            return LockFile(path, identity if is_same else None), descriptor
        os.close(descriptor)
        if is_late:
            which = "" if shard.count == 1 else f" for shard {shard.index}/{shard.count}"
            raise ResultsInUseError(
                f"{out}: another process is using this folder{which}; wait until it ends, or choose another folder"
            )
        time.sleep(0.02)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _release(file: LockFile, close: Callable[[], object]) -> None:
    # While it is still held: a process that waits for it sees that it is gone. Windows refuses to remove an open
    # file, and so also one that the next process has opened by now.
    with suppress(OSError):
        if file.is_in_place:
            file.path.unlink()
    close()
    if sys.platform == "win32":
        with suppress(OSError):
            file.path.unlink()


def _try_lock(descriptor: int) -> bool:
    """Lock a file unless another process has locked it; also return True if the file system has no locks."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl  # noqa: TID251  # Windows has its own way, above

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _IS_HELD
    return True


def _overlapping(out: Path, shard: Shard) -> Iterator[Shard]:
    """Yield each shard of another count for which there is a lock file, held or left behind."""
    for path in out.iterdir():
        other = Shard.of_lock(path.name)
        if other is not None and other.count != shard.count:
            yield other
