"""A file -> the planes in it: single grey or colour images that are read when, and only as far as, they are needed."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from numpy.typing import DTypeLike

from nuclei_runtime.arrays import Image
from nuclei_runtime.errors import InputsError

AXES = "TCZYXS"
"""Time, channel, depth, row, column, sample of a colour."""
Z_CHOICES = ("each", "max")


@dataclass(frozen=True)
class Selection:
    """What is to be read of a file that holds more than one image. What is None is not asked for.

    Attributes
    ----------
    axes : str, optional
        A letter a dimension (T, C, Z, Y, X, S for the samples of RGB), where the file does not say it.
    channel : str or int, optional
        Name or index (from 0) of the channel to segment.
    z : str, optional
        ``each``: every plane of a Z stack on its own; ``max``: the maximum over them.

    Raises
    ------
    InputsError
        One of them can be no file's.
    """

    axes: str | None = None
    channel: str | int | None = None
    z: str | None = None

    def __post_init__(self) -> None:
        if self.axes is not None:
            unknown = sorted(set(self.axes) - set(AXES))
            if unknown or len(set(self.axes)) < len(self.axes) or "YX" not in self.axes.replace("C", ""):
                raise InputsError(
                    f"axes {self.axes!r}: expected a letter a dimension, each once, out of T (time), C (channel), "
                    "Z (depth), Y (rows), X (columns) and S (samples of a colour), with X behind Y, such as TYX or CZYX"
                )
        if self.channel == "" or (isinstance(self.channel, int) and self.channel < 0):
            raise InputsError(f"channel {self.channel!r}: expected a name, or an index from 0")
        if self.z is not None and self.z not in Z_CHOICES:
            raise InputsError(f"z {self.z!r}: expected {' or '.join(Z_CHOICES)}")


@dataclass(frozen=True, eq=False)
class Plane:
    """One grey or colour image of a file, not yet read.

    Attributes
    ----------
    time, z : int, optional
        Which of a file's planes it is, counted from 0; None where the file has no such axis.
    shape : tuple of int
        (H, W), (H, W, 3) or (H, W, 4).
    dtype : dtype
    pixel_size_um : (float, float), optional
        Height and width of a pixel in micrometres, where the file tells.
    read : callable
        ``read(rows, columns)``: the pixels of a region, two slices with whole starts and stops within the image.
        Raises as `nuclei_runtime.readers.opening.read_image` does.
    reads_blocks : bool
        Whether a region costs no more memory than the region; otherwise the first one reads the whole plane.
    channels_together : int
        How many channels, or colours, are decoded for each that `read` returns, because they lie together in the file.
    """

    time: int | None
    z: int | None
    shape: tuple[int, ...]
    dtype: DTypeLike
    pixel_size_um: tuple[float, float] | None
    read: Callable[[slice, slice], Image]
    reads_blocks: bool
    channels_together: int = 1

    @property
    def suffix(self) -> str:
        """What tells the plane's results from those of the file's other planes, such as ``_t003_z01``; or nothing."""
        parts = [f"_{letter}{index:03d}" for letter, index in (("t", self.time), ("z", self.z)) if index is not None]
        return "".join(parts)


_SERIES_STEM = re.compile(r"(.+?)(?:_t\d{3,}(?:_z\d{3,})?|_z\d{3,})")
"""A stem followed by what `Plane.suffix` gives."""


def series_stem(stem: str) -> str | None:
    """Return the stem of the series of which one plane would have this stem: ``a`` for ``a_t003_z001``."""
    match = _SERIES_STEM.fullmatch(stem)
    return None if match is None else match[1]


def plane_of(image: Image) -> Plane:
    """Return an image in memory as a plane."""
    return Plane(None, None, image.shape, image.dtype, None, lambda rows, columns: image[rows, columns], True)
