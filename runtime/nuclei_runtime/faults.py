"""Decides what is at fault for an error: the image, its name or the machine.

A run continues after an image that is at fault. It ends if the machine is at fault: every remaining image would fail
for the same reason, and would be recorded as failed although nothing is wrong with it.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeGuard

from nuclei_runtime.errors import (
    ImageError,
    ImageReadError,
    ImageTooLargeError,
    MissingExtraError,
    NucleiError,
    RuntimeEnvironmentError,
)

_REMEDIES = {
    errno.EMFILE: "raise the limit on open files (ulimit -n), or use fewer threads",
    errno.ENFILE: "the whole system has too many files open: close other programs",
    errno.ENOMEM: "the system is out of memory: close other programs",
    errno.ENOSPC: "free space on the disk",
    errno.EDQUOT: "free space, or have your quota raised",
    errno.EROFS: "make the file system writable",
}
"""What to do about errors for which the machine is at fault whatever was being read or written. An input/output error
(EIO) is not among them: only that file may be damaged."""

_OF_A_NAME = {errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL, errno.EEXIST, errno.ENOTDIR, errno.EISDIR}
"""Errors caused by a name that the file system refuses; it may accept the name of the next image."""


def is_of_machine(error: BaseException) -> TypeGuard[OSError]:
    """Whether the machine is at fault for an error, whatever was being read or written."""
    return isinstance(error, OSError) and error.errno in _REMEDIES


def is_of_name(error: OSError) -> bool:
    """Whether the name of a file is at fault for an error in writing it."""
    return error.errno in _OF_A_NAME


def reading_error(error: Exception) -> NucleiError:
    """Return the error to raise for an error that occurred while an image was read.

    Parameters
    ----------
    error : Exception
        What the file system or a decoder raised.

    Returns
    -------
    ImageError
        The image is at fault, or its format needs an extra that is not installed; other images may not need it.
    RuntimeEnvironmentError
        The machine is at fault.
    """
    if isinstance(error, MissingExtraError):
        return ImageReadError(str(error))
    if isinstance(error, NucleiError):
        return error
    if (trouble := machine_trouble(error)) is not None:
        return machine_error(trouble, f"{trouble.filename or 'an image'}: cannot be read")
    # EINVAL comes from a seek to an offset that damaged bytes gave: the file system itself works.
    if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
        return ImageReadError(f"cannot be read: {error.strerror or error}")
    if isinstance(error, MemoryError):
        return ImageReadError("there is not enough memory for the size that the file claims")
    # Damaged bytes make decoders raise all kinds of exceptions, including OSErrors without a number.
    reason = str(error) or type(error).__name__
    return ImageReadError(f"cannot be decoded; the file may be truncated or damaged: {reason}")


def machine_trouble(error: BaseException | None) -> OSError | None:
    """Return the machine's error behind an error: libraries replace those of the file system with their own."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if is_of_machine(error):
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


def image_failure(error: Exception) -> str:
    """Return why an image failed, for its record, or raise the error if the image is not at fault.

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
    return f"{type(error).__name__}: {error}"  # an unforeseen error: its type may say more than its message


@contextmanager
def allocating_for(shape: tuple[int, ...]) -> Iterator[None]:
    """Turn a failed allocation into an error of the image, whose size is to blame.

    Parameters
    ----------
    shape : tuple of int
        Shape of the image.

    Raises
    ------
    ImageTooLargeError
        There is not enough memory.
    """
    try:
        yield
    except ImageTooLargeError:  # a MemoryError that says more
        raise
    except MemoryError as error:
        size = " x ".join(map(str, shape[:2]))
        raise ImageTooLargeError(
            f"there is not enough memory for {size} pixels ({str(error) or 'MemoryError'}); allow the process more "
            "memory, or use smaller images"
        ) from error


def machine_error(error: OSError, what: str, advice: str = "") -> RuntimeEnvironmentError:
    """Return the error to raise for an error of the file system for which the machine is at fault.

    Parameters
    ----------
    error : OSError
    what : str
        What failed, such as ``DIR/labels/a.tif: cannot be written``.
    advice : str
        What else to do or to know, in addition to the remedy for this kind of error.
    """
    parts = (f"{what}: {error.strerror or error}", _REMEDIES.get(error.errno or 0), advice)
    return RuntimeEnvironmentError("; ".join(part for part in parts if part))
