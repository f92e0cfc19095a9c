"""Whose fault an error is: the image's, its name's or the machine's.

A run goes on after an image that is at fault and ends where the machine is: every image that is still to come would
fail for the same reason, and would be recorded as failed for a reason that is not its own.
"""

from __future__ import annotations

import errno
from typing import TypeGuard

from nuclei_runtime.errors import ImageError, ImageReadError, MissingExtraError, NucleiError, RuntimeEnvironmentError

_REMEDIES = {
    errno.EMFILE: "raise the limit on open files (ulimit -n), or use fewer --threads",
    errno.ENFILE: "the whole system has too many files open: close other programs",
    errno.ENOMEM: "the system has no memory left: close other programs",
    errno.ENOSPC: "free space on the disk",
    errno.EDQUOT: "free space, or have the quota raised",
    errno.EROFS: "make the file system writable",
}
"""What to do about errors that are always the machine's, whatever was being read or written. A disk that cannot read
a file (EIO) is not among them: the damage may be in that file alone."""

_OF_A_NAME = {errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL, errno.EEXIST, errno.ENOTDIR, errno.EISDIR}
"""Errors of a name that the file system does not take; it may well take the next image's."""


def is_of_machine(error: BaseException) -> TypeGuard[OSError]:
    """Whether an error of the file system is the machine's fault, whatever was being read or written."""
    return isinstance(error, OSError) and error.errno in _REMEDIES


def is_of_name(error: OSError) -> bool:
    """Whether an error of writing a file is the fault of the file's name."""
    return error.errno in _OF_A_NAME


def reading_error(error: Exception) -> NucleiError:
    """Return what to raise for an error that came up while an image was read.

    Parameters
    ----------
    error : Exception
        Whatever the file system or a decoder raised.

    Returns
    -------
    ImageError
        The image is at fault; or its format needs an extra that is not installed, which the next image's may not.
    RuntimeEnvironmentError
        The machine is at fault.
    """
    if isinstance(error, MissingExtraError):
        return ImageReadError(str(error))
    if isinstance(error, NucleiError):
        return error
    if (trouble := _behind(error)) is not None:
        return machine_error(trouble, f"{trouble.filename or 'an image'}: cannot be read")
    # A seek to where damaged bytes lead is an invalid argument (EINVAL): the file system itself has no trouble.
    if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
        return ImageReadError(f"cannot be read: {error.strerror or error}")
    if isinstance(error, MemoryError):
        return ImageReadError("there is not enough memory for the size that the file claims")
    # Decoders raise whatever damaged bytes lead them into, OSErrors without a number among it.
    reason = str(error) or type(error).__name__
    return ImageReadError(f"cannot be decoded, the file may be truncated or damaged: {reason}")


def _behind(error: BaseException | None) -> OSError | None:
    """Return the machine's trouble that led to an error: decoders raise errors of their own out of those of a read."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if is_of_machine(error):
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


def image_failure(error: Exception) -> str:
    """Return why an image failed, for its record, or raise the error again where the image is not at fault.

    Raises
    ------
    NucleiError
        The machine or the model is at fault.
    """
    if isinstance(error, ImageError):
        return str(error)
    if isinstance(error, NucleiError):
        raise error
    if is_of_machine(error):
        raise machine_error(error, str(error.filename or "a file")) from error
    if isinstance(error, MemoryError):
        return "there is not enough memory for this image"
    return f"{type(error).__name__}: {error}"  # what nobody foresaw bears its type


def machine_error(error: OSError, what: str, advice: str = "") -> RuntimeEnvironmentError:
    """Return what to raise for an error of the file system that is the machine's fault.

    Parameters
    ----------
    error : OSError
    what : str
        What failed, such as ``DIR/labels/a.tif: cannot be written``.
    advice : str
        What to do, or to know, besides the remedy for this very error.
    """
    parts = (f"{what}: {error.strerror or error}", _REMEDIES.get(error.errno or 0), advice)
    return RuntimeEnvironmentError("; ".join(part for part in parts if part))
