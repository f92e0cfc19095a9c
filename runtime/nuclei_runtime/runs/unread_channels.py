"""Channels that are absent or cannot be read, but are only measured: they do not cost an image its nuclei.

A plane begins without the channels that its file lacks. Where one turns out to be unreadable, the plane is done again
without it, so that its measurements are missing as a whole: which of them could have been made would depend on the
blocks, and these on the memory. The plane's note says what is missing and why.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from nuclei_runtime.arrays import Image
from nuclei_runtime.errors import ImageError
from nuclei_runtime.readers.plane import Plane, Read


class UnreadChannelError(ImageError):
    """A channel that is only measured is absent or cannot be read.

    Attributes
    ----------
    channel : str
    """

    def __init__(self, channel: str, reason: str) -> None:
        super().__init__(channel, reason)
        self.channel, self.reason = channel, reason

    def __str__(self) -> str:
        return f"channel {self.channel} was not measured: {self.reason}"


def naming_channels(plane: Plane) -> Plane:
    """Return the plane without absent channels; the others raise `UnreadChannelError` where they cannot be read."""
    for one in plane.measured:
        if one.absent is not None:
            plane = without(plane, UnreadChannelError(one.name, str(one.absent)))
    measured = tuple(replace(one, read=partial(_read, one.name, one.read)) for one in plane.measured)
    return replace(plane, measured=measured)


def without(plane: Plane, error: UnreadChannelError) -> Plane:
    """Return the plane without a channel, and with a note on it."""
    measured = tuple(one for one in plane.measured if one.name != error.channel)
    return replace(plane, measured=measured, notes=(*plane.notes, str(error)))


def _read(name: str, read: Read, rows: slice, columns: slice) -> Image:
    try:
        return read(rows, columns)
    except ImageError as error:
        if isinstance(error, MemoryError) or isinstance(error.__cause__, MemoryError):
            raise  # there may be enough next time
        raise UnreadChannelError(name, str(error)) from error
