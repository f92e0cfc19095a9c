"""A share of a results folder is one living process's: a lock on a file, which the system lets go of with the process.

Who goes on with a run takes what is half done for a killed process's, and removes it: it must not be a living one's.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from nuclei_runtime.errors import ResultsInUseError
from nuclei_runtime.shard import Shard

_NAME = re.compile(r"\.nuclei-lock-([0-9]+)-of-([0-9]+)")

_PATIENCE_S = 1.0
"""A lock that is about to be let go of is not in use."""

_NO_LOCKS_HERE = {errno.ENOLCK, errno.EOPNOTSUPP}


class Claim:
    """That no other living process is at this share of a results folder, until `release`.

    Shares of one count have nothing in common; of two counts they do, as have a share and the whole.

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
        self._lock = _lock(out, shard)
        try:
            if not _acquire(self._lock):
                raise _in_use(out, shard)
            # After one's own: of two processes that begin at once, each sees the other, and at least one gives way.
            for other in _others(out, shard):
                lock = _lock(out, other)
                if not _acquire(lock):
                    raise _in_use(out, other)
                _let_go(lock)  # it was a killed process's
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Let go of the share."""
        _let_go(self._lock)


def _others(out: Path, shard: Shard) -> Iterator[Shard]:
    """Yield each share that some process has claimed, living or not, and that has images of this one's."""
    for path in out.iterdir():
        match = _NAME.fullmatch(path.name)
        if match is not None and int(match[2]) != shard.count:
            yield Shard(int(match[1]), int(match[2]))


def _lock(out: Path, shard: Shard) -> FileLock:
    path = out / f".nuclei-lock-{shard.index}-of-{shard.count}"
    return FileLock(path, timeout=_PATIENCE_S, thread_local=False)  # whichever thread ends the run lets go of it


def _acquire(lock: FileLock) -> bool:
    try:
        lock.acquire()
    except Timeout:
        return False
    except NotImplementedError:
        pass
    except OSError as error:
        if error.errno not in _NO_LOCKS_HERE:
            raise
    return True  # where the file system has no locks as well: nobody can tell


def _let_go(lock: FileLock) -> None:
    if not lock.is_locked:
        return
    path = Path(lock.lock_file)
    try:
        path.unlink()  # while it is held: who waits for it sees that it has gone
    except OSError:  # Windows removes no file that is open, and so none that the next process has locked either
        lock.release()
        with suppress(OSError):
            path.unlink()
    else:
        lock.release()


def _in_use(out: Path, shard: Shard) -> ResultsInUseError:
    share = "" if shard.count == 1 else f" on its share {shard.index}/{shard.count}"
    return ResultsInUseError(
        f"{out}: another process is at work in it{share}; let it end and start again, or name another folder"
    )
