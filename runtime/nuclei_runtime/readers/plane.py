"""Planes: the single grey or colour images in a file, read only in the regions that are needed."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from numpy.typing import DTypeLike

from nuclei_runtime.arrays import Image, check_array
from nuclei_runtime.errors import InputsError

AXES = "TCZYXS"
"""All axes that are known: time, channel, depth, row, column, sample of a colour."""
Z_CHOICES = ("each", "max")
ALL_COLOURS = "rgb"
"""The channel of an image whose red, green and blue are segmented together."""


@dataclass(frozen=True)
class Selection:
    """What a file does not say by itself: which planes to read, and their scale. None means that nothing is asked for.

    Attributes
    ----------
    axes : str, optional
        One letter per dimension (T, C, Z, Y, X, or S for the samples of RGB), for files that do not state their axes.
    channel : str or int, optional
        Name or index (from 0) of the channel to segment, for files that have channels; `ALL_COLOURS` if its three
        channels are the colours of one picture. A colour image has no channels that an index could mean: its ``red``,
        ``green`` or ``blue`` is chosen by name.
    z : str, optional
        ``each``: every plane of a Z stack by itself; ``max``: the maximum over them.
    pixel_size_um : float, optional
        Height and width of a pixel in micrometres, for files that do not state it.

    Raises
    ------
    InputsError
        A value is valid for no file.
    """

    axes: str | None = None
    channel: str | int | None = None
    z: str | None = None
    pixel_size_um: float | None = None

    def __post_init__(self) -> None:
        if self.axes is not None:
            unknown = sorted(set(self.axes) - set(AXES))
            if unknown or len(set(self.axes)) < len(self.axes) or "YX" not in self.axes.replace("C", ""):
                raise InputsError(
                    f"axes {self.axes!r}: expected one letter per dimension, without repeats: T (time), C (channel), "
                    "Z (depth), Y (rows), X (columns) and S (samples of a colour), with X after Y, such as TYX or CZYX"
                )
        if self.channel == "" or (isinstance(self.channel, int) and self.channel < 0):
            raise InputsError(f"channel {self.channel!r}: expected a name, or an index from 0")
        if self.z is not None and self.z not in Z_CHOICES:
            raise InputsError(f"z {self.z!r}: expected {' or '.join(Z_CHOICES)}")
        if self.pixel_size_um is not None and not 0 < self.pixel_size_um < math.inf:
            raise InputsError(f"pixel size {self.pixel_size_um}: expected micrometres, above 0, such as 0.325")


@dataclass(frozen=True, eq=False)
class Plane:
    """One grey or colour image of a file, not yet read.

    Attributes
    ----------
    time, z : int, optional
        Index of the plane in its file, from 0; None if the file has no such axis.
    shape : tuple of int
        (H, W), (H, W, 3) or (H, W, 4).
    dtype : dtype
    pixel_size_um : (float, float), optional
        Height and width of a pixel in micrometres, if the file states them.
    read : callable
        ``read(rows, columns)`` returns the pixels of a region: two slices with bounds in the image.
        Raises as `nuclei_runtime.readers.opening.read_image` does.
    reads_blocks : bool
        Whether reading a region needs only about the memory of the region. Otherwise the first read reads the whole
        plane.
    channels_together : int
        How many channels or colours are decoded for each that `read` returns, as the file interleaves them.
    channel : str, optional
        Which of the file's channels or colours it is: a name or an index, or `ALL_COLOURS`; None for a grey image.
    """

    time: int | None
    z: int | None
    shape: tuple[int, ...]
    dtype: DTypeLike
    pixel_size_um: tuple[float, float] | None
    read: Callable[[slice, slice], Image]
    reads_blocks: bool
    channels_together: int = 1
    channel: str | None = None

    @property
    def suffix(self) -> str:
        """A suffix such as ``_t003_z001``, which distinguishes the results of the planes of one file; or nothing."""
        parts = [f"_{letter}{index:03d}" for letter, index in (("t", self.time), ("z", self.z)) if index is not None]
        return "".join(parts)


_SERIES_STEM = re.compile(r"(.+?)(?:_t\d{3,}(?:_z\d{3,})?|_z\d{3,})")
"""A stem followed by what `Plane.suffix` gives."""


def series_stem(stem: str) -> str | None:
    """Return the stem of the series that a plane with this stem would belong to: ``a`` for ``a_t003_z001``."""
    match = _SERIES_STEM.fullmatch(stem)
    return None if match is None else match[1]


def plane_of(image: Image) -> Plane:
    """Return an image in memory as a plane.

    Parameters
    ----------
    image : (H, W), (H, W, 3) or (H, W, 4) ndarray
        Not copied. Its values are checked when they are read.

    Raises
    ------
    ImageShapeError, ImageValueError
        This is not an array of a shape and type that can be segmented.
    """
    check_array(image)
    return Plane(None, None, image.shape, image.dtype, None, lambda rows, columns: image[rows, columns], True)
