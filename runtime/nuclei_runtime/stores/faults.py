"""Turns the errors of stores into those of a file system, with a number and a sentence and without secrets."""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping
from typing import Any

_SECRET = re.compile(r"key|secret|token|password|credential|sas|connection", re.IGNORECASE)
"""In the name of an option of fsspec whose value no message may hold."""

_SHORTEST_SECRET = 6

_KEPT_NUMBERS = frozenset((errno.ENAMETOOLONG, errno.ENOSYS, errno.ENOSPC, errno.EDQUOT, errno.EBUSY))
"""Numbers that say what they say on a disk. Stores use others, such as EINVAL, for all kinds of refusals."""


def with_number(error: Exception, url: str, system: Any) -> OSError:
    """Return the error of a file system that stands for an error of a store.

    Parameters
    ----------
    error : Exception
        Each package for a store raises errors of its own.
    url : str
        What was asked for.
    system : AbstractFileSystem, optional
        Of fsspec; no value of its options whose name sounds secret gets into the message.
    """
    number, text = getattr(error, "errno", None), getattr(error, "strerror", None)
    reason = _without_secrets(text or str(error) or type(error).__name__, system)
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(errno.ENOENT, "there is no such object, bucket or file", url)
    if isinstance(error, FileExistsError):
        return FileExistsError(errno.EEXIST, "there already is such an object or file", url)
    if isinstance(error, PermissionError) or "credential" in type(error).__name__.lower():
        advice = (
            "check the credentials that fsspec finds (for S3 in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or in "
            "~/.aws), and that they permit listing and reading the images, and "
            "listing, reading, writing and deleting the results"
        )
        return PermissionError(errno.EACCES, f"access is denied ({reason}); {advice}", url)
    if isinstance(error, TimeoutError):
        return TimeoutError(errno.ETIMEDOUT, f"the store did not answer in time ({reason})", url)
    if isinstance(error, OSError) and number in _KEPT_NUMBERS:
        return OSError(number, reason, url)
    return OSError(errno.EIO, reason, url)


def _without_secrets(text: str, system: Any) -> str:
    """Return a message without any value that fsspec was configured with and whose name sounds secret."""
    values = [getattr(system, "storage_options", {})]
    while values:
        for name, value in values.pop().items():
            if isinstance(value, Mapping):
                values.append(value)
            elif isinstance(value, str) and len(value) >= _SHORTEST_SECRET and _SECRET.search(str(name)):
                text = text.replace(value, "...")
    return " ".join(text.split())
