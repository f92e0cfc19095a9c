"""Planes: the single grey or colour images in a file, read only in the regions that are needed."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from nuclei_runtime.arguments import Valid, check_fields, is_number, is_one_of, is_text, is_whole
from nuclei_runtime.arrays import Image, check_array
from nuclei_runtime.errors import ArgumentError, ImageError

AXES = "TCZYXS"
"""All axes that are known: time, channel, depth, row, column, sample of a colour."""
Z_CHOICES = ("each", "max")
ALL_COLOURS = "rgb"
"""The channel of an image whose red, green and blue are segmented together."""
EACH_SCENE = "each"
ALL_CHANNELS = "all"

Read = Callable[[slice, slice], Image]
"""``read(rows, columns)`` returns the pixels of a region: two slices with bounds in the image. Raises as
`nuclei_runtime.readers.opening.read_image` does."""

LARGE_PX = 4096
"""The longest side of a plane that is not large. Only in large ones does it pay to look for glass, and to keep blocks
of an interrupted run."""
GLASS_SQUARE_PX = 1024
"""Side of the squares that are skipped as a whole if they show nothing but glass."""


def _are_axes(value: Any) -> bool:
    return (
        is_text(value) and len(set(value)) == len(value) and set(value) <= set(AXES) and "YX" in value.replace("C", "")
    )


def _is_choice(value: Any) -> bool:
    return is_whole(value) or (is_text(value) and value != "")


def _are_names(value: Any) -> bool:
    return isinstance(value, tuple | list) and len(value) > 0 and all(is_text(name) and name for name in value)


def _is_size(value: Any) -> bool:
    return is_number(value) and value > 0


_VALID: Valid = {
    "axes": (
        _are_axes,
        "one letter per dimension, without repeats: T (time), C (channel), Z (depth), Y (rows), X (columns) and S "
        "(samples of a colour), with X after Y, such as TYX or CZYX",
    ),
    "channel": (_is_choice, "a name, or an index from 0"),
    "z": (partial(is_one_of, Z_CHOICES), " or ".join(Z_CHOICES)),
    "scene": (_is_choice, f"a name, an index from 0, or {EACH_SCENE}"),
    "level": (is_whole, "an index from 0, the finest"),
    "mpp": (_is_size, "micrometres per pixel, above 0"),
    "pixel_size_um": (_is_size, "micrometres, above 0, such as 0.325"),
    "measure": (
        _are_names,
        f"names or indices of channels as a tuple of texts, such as ('GFP', '2'), or {ALL_CHANNELS}",
    ),
}


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
    scene : str or int, optional
        Of a file that holds several images: the name or index (from 0) of one, or ``each``.
    level : int, optional
        Of an image that is stored at several resolutions: which one, from 0, the finest.
    mpp : float, optional
        Instead of a level, the size of its pixels in micrometres (microns per pixel).
    pixel_size_um : float, optional
        Height and width of a pixel in micrometres, for files that do not state it. Others keep what they state.
    measure : tuple of str, optional
        Names or indices (from 0) of the channels whose intensities are measured in each nucleus, or `ALL_CHANNELS`
        alone. A colour image has the channels red, green and blue. A plane has one that its file lacks as an absent
        `MeasuredChannel`.

    Raises
    ------
    ArgumentError
        A value is valid for no file.
    """

    axes: str | None = None
    channel: str | int | None = None
    z: str | None = None
    scene: str | int | None = None
    level: int | None = None
    mpp: float | None = None
    pixel_size_um: float | None = None
    measure: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        check_fields(self, _VALID)
        if self.level is not None and self.mpp is not None:
            raise ArgumentError("level and mpp both choose a resolution; give one of the two")


@dataclass(frozen=True, eq=False)
class MeasuredChannel:
    """A channel of a plane's file whose intensities are measured.

    Attributes
    ----------
    name : str
        What the file calls it, or its index; no two of a plane are called alike.
    read : callable
        See `Read`. The size of its image is that of the plane.
    absent : ImageError, optional
        Why the file does not have it, although `Selection.measure` asks for it; `read` raises this.
    """

    name: str
    read: Read
    absent: ImageError | None = None


def raising(error: ImageError) -> Read:
    """Return what reads something that cannot be read, for a reason that is known."""

    def read(_rows: slice, _columns: slice) -> Image:
        raise error

    return read


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
        See `Read`.
    reads_blocks : bool
        Whether reading a region needs only about the memory of the region. Otherwise the first read reads the whole
        plane.
    channels_together : int
        How many channels or colours are decoded for each that `read` returns, as the file interleaves them.
    scene : int, optional
        Index of the image in a file that holds several, from 0.
    scene_label : str, optional
        What the tables call the image in its file, unlike any other: its name, or its index if it has none, or both.
    well, field : str, optional
        Where on a plate it was taken: ``B02`` and what the plate's index calls the field, such as ``1``.
    channel : str, optional
        Which of the file's channels or colours it is: a name or an index, or `ALL_COLOURS`; None for a grey image.
    measured : tuple of MeasuredChannel
        The channels of the same place and time whose intensities are measured.
    in_hyperstack : bool
        Whether the file holds several planes along more than one of time, depth and channel. ImageJ then gives a plane
        by its time and its depth, otherwise by its place in the stack.
    downsample : (float, float)
        How high and wide a pixel is in pixels of the finest resolution that the file stores.
    coarser : tuple of Plane
        The same plane at lower resolutions, from fine to coarse, if the file stores them.
    glass : (rows, columns) ndarray of bool, optional
        Which squares of `GLASS_SQUARE_PX` show nothing but the glass of a slide, so that nothing is looked for there;
        see `nuclei_runtime.segmentation.glass`. None if glass was not looked for.
    notes : tuple of str
        What is to be known about how it was read, such as a pixel size that was asked for and is not used.
    check : callable
        Raises an error if its segmentation is to end; see `nuclei_runtime.segmentation.cancelling`.
    """

    time: int | None
    z: int | None
    shape: tuple[int, ...]
    dtype: DTypeLike
    pixel_size_um: tuple[float, float] | None
    read: Read
    reads_blocks: bool
    channels_together: int = 1
    scene: int | None = None
    scene_label: str | None = None
    well: str | None = None
    field: str | None = None
    channel: str | None = None
    measured: tuple[MeasuredChannel, ...] = ()
    in_hyperstack: bool = False
    downsample: tuple[float, float] = (1.0, 1.0)
    coarser: tuple[Plane, ...] = ()
    glass: NDArray[np.bool_] | None = None
    notes: tuple[str, ...] = ()
    check: Callable[[], None] = lambda: None

    @property
    def is_large(self) -> bool:
        """Whether a side is longer than `LARGE_PX`."""
        return max(self.shape[:2]) > LARGE_PX

    @property
    def glass_share(self) -> float | None:
        """Share of the pixels that are skipped as glass, 0 to 1; None if glass was not looked for."""
        if self.glass is None:
            return None
        rows, columns = (
            np.minimum(GLASS_SQUARE_PX, length - GLASS_SQUARE_PX * np.arange(n))
            for n, length in zip(self.glass.shape, self.shape, strict=False)
        )
        return float((np.outer(rows, columns) * self.glass).sum() / math.prod(self.shape[:2]))

    def shows_glass(self, rows: slice, columns: slice) -> bool:
        """Return whether a region shows nothing but glass."""
        if self.glass is None:
            return False
        first, last = (
            slice(part.start // GLASS_SQUARE_PX, -(-part.stop // GLASS_SQUARE_PX)) for part in (rows, columns)
        )
        return bool(self.glass[first, last].all())

    def reading(self, wrap: Callable[[Read], Read]) -> Plane:
        """Return the plane with each of its ways to read pixels wrapped into a function."""
        measured = tuple(replace(channel, read=wrap(channel.read)) for channel in self.measured)
        coarser = tuple(level.reading(wrap) for level in self.coarser)
        return replace(self, read=wrap(self.read), measured=measured, coarser=coarser)

    @property
    def suffix(self) -> str:
        """A suffix such as ``_s02_t003_z001``, which tells the results of the planes of one file apart; or nothing."""
        scene = "" if self.scene is None else f"_s{self.scene:02d}"
        parts = [f"_{letter}{index:03d}" for letter, index in (("t", self.time), ("z", self.z)) if index is not None]
        return "".join([scene, *parts])


_SERIES_STEM = re.compile(r"(.+?)(?=_[stz]\d)(?:_s\d{2,})?(?:_t\d{3,})?(?:_z\d{3,})?")
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
