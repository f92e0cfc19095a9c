"""A share of a results folder is one living process's: a lock on a file, which the system lets go of with the process.

Who goes on with a run takes what is half done for a killed process's, and removes it: it must not be a living one's.
"""

from __future__ import annotations

import errno
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from weakref import finalize

from nuclei_runtime.errors import ResultsInUseError
from nuclei_runtime.results.shard import Shard

_NAME = re.compile(r"\.nuclei-lock-([0-9]+)-of-([0-9]+)")

_PATIENCE_S = 1.0
"""A process that is about to end has it no more."""

_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
"""Nothing is made through a link."""

_IS_HELD = {errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK, errno.EDEADLK}


class Claim:
    """That no other living process is at this share of a results folder, until `release`.

    Shares of one count have nothing in common; of two counts they do, as have a share and the whole. Where the file
    system has no locks, nobody can tell, and every process is let in.

    Parameters
    ----------
    out : Path
        The results folder.
    shard : Shard

    Raises
    ------
    ResultsInUseError
        Another process is at it.
    OSError
        The folder cannot be written to.
    """

    def __init__(self, out: Path, shard: Shard) -> None:
        self._lock = _Lock(out, shard)
        try:
            # After one's own: of two processes that begin at once, each sees the other, and at least one gives way.
            for other in _others(out, shard):
                _Lock(out, other).release()  # it was a killed process's
        except BaseException:
            self.release()
            raise

    @property
    def stands(self) -> bool:
        """Whether the folder is still the one that was claimed: not moved away, not another's in its place."""
        return self._lock.is_in_place

    def release(self) -> None:
        """Let go of the share."""
        self._lock.release()


class _Lock:
    """A file of the folder, open and locked."""

    def __init__(self, out: Path, shard: Shard) -> None:
        self._path = out / f".nuclei-lock-{shard.index}-of-{shard.count}"
        until = time.monotonic() + _PATIENCE_S
        while True:
            try:
                self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | _NO_LINK, 0o666)
            except PermissionError as error:
                if not self._path.exists():
                    raise
                raise ResultsInUseError(
                    f"{out}: another user's process is or was at work in it; if none is, have {self._path} removed"
                ) from error
            is_free, is_late = _try_lock(self._file), time.monotonic() > until
            # Its process may have removed it between opening and locking; not again and again, but there are file
            # systems that number a file otherwise with each look.
            self._is_numbered = self._is_same()
            if is_free and (self._is_numbered or is_late):
                # Also where a run is forgotten without being closed.
                self._close = finalize(self, os.close, self._file)
                return
            os.close(self._file)
            if is_late:
                share = "" if shard.count == 1 else f" on its share {shard.index}/{shard.count}"
                raise ResultsInUseError(
                    f"{out}: another process is at work in it{share}; let it end and start again, or name another "
                    "folder"
                )
            time.sleep(0.02)

    @property
    def is_in_place(self) -> bool:
        return self._is_same() if self._is_numbered else self._path.exists()

    def _is_same(self) -> bool:
        try:
            return os.path.samestat(self._path.stat(), os.fstat(self._file))
        except FileNotFoundError:
            return False

    def release(self) -> None:
        if not self._close.alive:
            return
        # While it is held: who waits for it sees that it is gone. Windows removes no file that is open, and so none
        # that the next process has locked either.
        with suppress(OSError):
            if self.is_in_place:
                self._path.unlink()
        self._close()
        if sys.platform == "win32":
            with suppress(OSError):
                self._path.unlink()


def _try_lock(file: int) -> bool:
    """Lock a file unless another has; True also where the file system has no locks."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl  # noqa: TID251  # Windows has its own way, above

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _IS_HELD
    return True


def _others(out: Path, shard: Shard) -> Iterator[Shard]:
    """Yield each share that some process has claimed, living or not, and that has images of this one's."""
    for path in out.iterdir():
        match = _NAME.fullmatch(path.name)
        if match is not None and int(match[2]) != shard.count:
            yield Shard(int(match[1]), int(match[2]))
