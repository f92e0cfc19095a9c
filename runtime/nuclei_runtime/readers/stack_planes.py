"""Finds the planes in a stack, and reads regions of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from itertools import product
from math import prod

import numpy as np

from nuclei_runtime.arrays import Image, check_form, check_image
from nuclei_runtime.errors import ImageShapeError
from nuclei_runtime.readers.axes import Stack, named_axes
from nuclei_runtime.readers.channels import Channels, Chosen, UndecidedError
from nuclei_runtime.readers.pixel_size import PixelSize
from nuclei_runtime.readers.plane import MeasuredChannel, Plane, Read, Selection, raising

PIXEL_SIZE_TOLERANCE = 0.01
"""How far the pixel size that is asked for may be from the one that the file states, relative to it: people round."""


def find_planes(stack: Stack, selection: Selection) -> list[Plane]:
    """Return the selected planes, ordered by time, then by Z.

    Raises
    ------
    ImageShapeError
        A dimension, the channel or the choice for a Z stack is not stated, or does not exist in the file.
    ImageValueError
        The values are of a type that cannot hold intensities.
    """
    axes, are_colours = named_axes(stack, selection.axes)
    length = dict(zip(axes, stack.shape, strict=True))
    n_channels = length.get("C", 1)
    names = stack.channels if len(stack.channels) == n_channels else ()
    channels = Channels(n_channels, length.get("S", 1), names, are_colours, stack.dtype, stack.found)
    chosen = channels.choose(selection.channel)
    own = stack.as_channel_has_it(chosen.indices[0])
    segmented = _Channel(own, axes, chosen)
    n_z = max(map(len, segmented.depths.values()))
    if n_z > 1 and selection.z is None:
        raise UndecidedError(
            f"a Z stack of {n_z} planes ({own.found})",
            "choose with --z each (every plane on its own) or --z max (their maximum)",
        )
    projected = selection.z == "max"
    together = prod(own.shape[own.axes.index("X") + 1 :])  # axes after X are interleaved: they are decoded together
    shape = (*segmented.size, *([chosen.n_values] if chosen.n_values > 1 else []))
    check_form(shape, np.dtype(own.dtype))
    pixel_size_um, notes = _pixel_size(own.pixel_size_um, selection.pixel_size_um)
    asked, absent = channels.measured(selection.measure or ())
    measured: dict[str, _Channel] = {}
    for name, one in asked.items():
        try:
            _check_alike(stack.as_channel_has_it(one.indices[0]), own)
            measured[name] = _Channel(own, axes, one)
        except ImageShapeError as error:
            absent[name] = error
    lacking = [MeasuredChannel(name, raising(error), error) for name, error in absent.items()]
    return [
        Plane(
            time if length.get("T", 1) > 1 else None,
            depths[0] if n_z > 1 and not projected else None,
            shape,
            own.dtype,
            pixel_size_um,
            segmented.reader(time, depths),
            own.reads_blocks,
            channels_together=max(1, together // chosen.n_values),
            channel=chosen.name,
            measured=(*_measured(measured, time, depths, projected=projected), *lacking),
            notes=notes,
        )
        for time, depths in _in_planes(segmented.depths, projected=projected)
    ]


class _Channel:
    """A channel of a stack, or three that become colours, as planes that can be read.

    Attributes
    ----------
    size : (int, int)
        Height and width.
    depths : dict
        The depths that the channel has, for each of its times.
    """

    def __init__(self, stack: Stack, axes: str, chosen: Chosen) -> None:
        length = dict(zip(axes, stack.shape, strict=True))
        self.size = length["Y"], length["X"]
        self.depths: dict[int, list[int]] = {}
        every = product(range(length.get("T", 1)), range(length.get("Z", 1)))
        for time, z in every if stack.taken is None else stack.taken(chosen.indices[0]):
            self.depths.setdefault(time, []).append(z)
        if not self.depths:
            raise ImageShapeError(f"the file has no plane of this channel ({stack.found})")
        self._stack, self._chosen = stack, chosen
        self._leading = [axis for axis, own in zip(axes, stack.axes, strict=True) if own not in "YXS"]
        self._last_read = _LastRead()

    def reader(self, time: int, depths: Sequence[int]) -> Read:
        """Return a function that reads a region of the maximum over some depths."""
        at = {"T": [time], "Z": depths}
        indices = [
            list(product(*((at | {"C": [channel]}).get(axis, [0]) for axis in self._leading)))
            for channel in self._chosen.indices
        ]

        def read(rows: slice, columns: slice) -> Image:
            if not (0 <= rows.start < rows.stop <= self.size[0] and 0 <= columns.start < columns.stop <= self.size[1]):
                raise ValueError(f"found rows {rows} and columns {columns}, expected a region within {self.size}")
            channels = [
                reduce(np.maximum, (self._stack.read(index, rows, columns) for index in own)) for own in indices
            ]
            image = channels[0] if len(channels) == 1 else np.stack(channels, axis=-1)
            if self._chosen.sample is not None:
                image = image[..., self._chosen.sample]
            check_image(image)
            return image

        return read if self._stack.reads_blocks else self._last_read.reader((time, *depths), read, self.size)


def _in_planes(depths: Mapping[int, Sequence[int]], *, projected: bool) -> Iterator[tuple[int, Sequence[int]]]:
    """Yield the time and the depths of each plane that results."""
    for time, own in depths.items():
        yield from [(time, own)] if projected else ((time, [z]) for z in own)


def _measured(
    channels: Mapping[str, _Channel], time: int, depths: Sequence[int], *, projected: bool
) -> Iterator[MeasuredChannel]:
    """Yield each channel that is measured in a plane: at all depths that it has, at the same one or at its only one."""
    for name, channel in channels.items():
        found = channel.depths.get(time, [])
        at = found if projected or len(found) == 1 else [z for z in depths if z in found]
        if at:
            yield MeasuredChannel(name, channel.reader(time, at))


def _check_alike(other: Stack, stack: Stack) -> None:
    """Check that the pixels of another channel lie on those of the one that is segmented."""
    found, expected = (" x ".join(str(one.shape[one.axes.index(axis)]) for axis in "YX") for one in (other, stack))
    if found != expected:
        raise ImageShapeError(
            f"it has {found} pixels, the segmented channel {expected}; to measure it, segment it in another run"
        )


def _pixel_size(stated: PixelSize | None, asked: float | None) -> tuple[PixelSize | None, tuple[str, ...]]:
    """Return the size of a pixel, and what is to be known about it.

    What a file states is of this file; what is asked for is one number for all files, some of which may be of another
    objective. It is therefore for those that state nothing, and a note tells whoever knows better than the file.
    """
    if stated is None or asked is None:
        return stated if asked is None else (asked, asked), ()
    if all(abs(size / asked - 1) <= PIXEL_SIZE_TOLERANCE for size in stated):
        return stated, ()
    return stated, (
        f"the file says that a pixel is {stated[0]:.6g} x {stated[1]:.6g} um, so --pixel-size {asked:g} was not used; "
        "if the file is wrong, correct it",
    )


class _LastRead:
    """Keeps the whole plane that was read last, for files that can only be read in whole planes."""

    def __init__(self) -> None:
        self._kept: tuple[object, Image] | None = None

    def reader(self, key: object, read: Read, size: tuple[int, int]) -> Read:
        """Return a function that reads the whole plane once and cuts regions from it."""

        def read_region(rows: slice, columns: slice) -> Image:
            kept = self._kept
            if kept is None or kept[0] != key:
                self._kept = None  # free it before the next one is read
                kept = key, read(slice(0, size[0]), slice(0, size[1]))
                self._kept = kept
            return kept[1][rows, columns]

        return read_region
