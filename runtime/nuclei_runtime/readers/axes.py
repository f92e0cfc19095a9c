"""Decides what each dimension of a file means and which planes that gives; refuses what is ambiguous."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product
from math import prod

import numpy as np
from numpy.typing import DTypeLike

from nuclei_runtime.arrays import Image, check_form, check_image
from nuclei_runtime.errors import ImageShapeError
from nuclei_runtime.readers.channels import Channels, Chosen, UndecidedError
from nuclei_runtime.readers.pixel_size import PixelSize
from nuclei_runtime.readers.plane import MeasuredChannel, Plane, Read, Selection, raising

UNKNOWN = "?"
"""An axis whose meaning the file does not state."""

PIXEL_SIZE_TOLERANCE = 0.01
"""How far the pixel size that is asked for may be from the one that the file states, relative to it: people round."""


@dataclass(frozen=True, eq=False)
class Stack:
    """The contents of a file: its dimensions, what is known about them, and a function that reads a region.

    Attributes
    ----------
    axes : str
        One letter per dimension, in the order of `shape`: T, C, Z, Y, X, S (samples of a colour) or `UNKNOWN`.
        Y comes before X.
    shape : tuple of int
    dtype : dtype
    channels : tuple of str
        Names of the channels; empty if unknown.
    pixel_size_um : (float, float), optional
    read : callable
        ``read(index, rows, columns)``: (h, w) or (h, w, S); `index` has one entry per axis other than Y, X
        and S, in their order.
    reads_blocks : bool
        Whether reading a region costs only about as much as the region.
    coarser : tuple of Stack
        The same contents at lower resolutions, from fine to coarse, if the file stores them.
    taken : callable, optional
        For an image of which channels may lack planes: ``taken(channel)`` returns the times and depths that the channel
        has, in order. Only these are segmented. None if every channel has all.
    of_channel : callable, optional
        For an image whose channels may differ in size: ``of_channel(channel)`` returns the stack with the size, type
        and pixel size of this one. None if all channels are alike.
    """

    axes: str
    shape: tuple[int, ...]
    dtype: DTypeLike
    channels: tuple[str, ...]
    pixel_size_um: PixelSize | None
    read: Callable[[tuple[int, ...], slice, slice], Image]
    reads_blocks: bool
    coarser: tuple[Stack, ...] = ()
    taken: Callable[[int], Sequence[tuple[int, int]]] | None = None
    of_channel: Callable[[int], Stack] | None = None

    @property
    def found(self) -> str:
        """A description for messages, without dimensions of length 1."""
        kept = _kept(self)
        return f"shape {tuple(self.shape[i] for i in kept)} with axes {''.join(self.axes[i] for i in kept)}"


def find_planes(stack: Stack, selection: Selection) -> list[Plane]:
    """Return the selected planes, ordered by time, then by Z.

    Raises
    ------
    ImageShapeError
        A dimension, the channel or the choice for a Z stack is not stated, or does not exist in the file.
    ImageValueError
        The values are of a type that cannot hold intensities.
    """
    axes, are_colours = _named_axes(stack, selection.axes)
    length = dict(zip(axes, stack.shape, strict=True))
    n_channels = length.get("C", 1)
    names = stack.channels if len(stack.channels) == n_channels else ()
    channels = Channels(n_channels, length.get("S", 1), names, are_colours, stack.dtype, stack.found)
    chosen = channels.choose(selection.channel)
    every, stack = stack, _of_channel(stack, chosen.indices[0])
    length = dict(zip(axes, stack.shape, strict=True))
    measured, absent = channels.measured(selection.measure or ())
    depths = _depths(stack, length, chosen.indices[0])
    n_z = max(map(len, depths.values()))
    if n_z > 1 and selection.z is None:
        raise UndecidedError(
            f"a Z stack of {n_z} planes ({stack.found})",
            "choose with --z each (every plane on its own) or --z max (their maximum)",
        )
    projected = selection.z == "max"
    together = prod(stack.shape[stack.axes.index("X") + 1 :])  # axes after X are interleaved: they are decoded together
    shape = (length["Y"], length["X"], *([chosen.n_values] if chosen.n_values > 1 else []))
    check_form(shape, np.dtype(stack.dtype))
    pixel_size_um, notes = _pixel_size(stack.pixel_size_um, selection.pixel_size_um)
    leading = [axis for axis, own in zip(axes, stack.axes, strict=True) if own not in "YXS"]
    of_measured: dict[str, dict[int, list[int]]] = {}
    for name, one in measured.items():
        try:
            _check_alike(_of_channel(every, one.indices[0]), stack)
            of_measured[name] = _depths(stack, length, one.indices[0])
        except ImageShapeError as error:
            absent[name] = error
    lacking = tuple(MeasuredChannel(name, raising(error), error) for name, error in absent.items())
    last_read = _LastRead()
    last_reads = {name: _LastRead() for name in of_measured}

    def reader(one: Chosen, time: int, own: Sequence[int], last_read: _LastRead) -> Read:
        at = {"T": [time], "Z": own}
        indices = [
            list(product(*((at | {"C": [channel]}).get(axis, [0]) for axis in leading))) for channel in one.indices
        ]
        read = _reader(stack, indices, one.sample, shape)
        return read if stack.reads_blocks else last_read.reader((time, *own), read, shape)

    planes = []
    for time, own in _in_planes(depths, projected=projected):
        planes.append(
            Plane(
                time if length.get("T", 1) > 1 else None,
                own[0] if n_z > 1 and not projected else None,
                shape,
                stack.dtype,
                pixel_size_um,
                reader(chosen, time, own, last_read),
                stack.reads_blocks,
                channels_together=max(1, together // chosen.n_values),
                channel=chosen.name,
                measured=tuple(
                    MeasuredChannel(name, reader(measured[name], time, at, last_reads[name]))
                    for name, found in of_measured.items()
                    if (at := _of_other(found.get(time, ()), own, projected=projected))
                )
                + lacking,
                notes=notes,
            )
        )
    return planes


def _depths(stack: Stack, length: Mapping[str, int], channel: int) -> dict[int, list[int]]:
    """Return the depths that a channel has, for each of its times."""
    every = product(range(length.get("T", 1)), range(length.get("Z", 1)))
    depths: dict[int, list[int]] = {}
    for time, z in every if stack.taken is None else stack.taken(channel):
        depths.setdefault(time, []).append(z)
    if not depths:
        raise ImageShapeError(f"there is no plane of this channel ({stack.found})")
    return depths


def _of_channel(stack: Stack, channel: int) -> Stack:
    """Return the stack as one of its channels has it."""
    return stack if stack.of_channel is None else stack.of_channel(channel)


def _check_alike(other: Stack, stack: Stack) -> None:
    """Check that the pixels of another channel lie on those of the one that is segmented."""
    found, expected = (" x ".join(str(one.shape[one.axes.index(axis)]) for axis in "YX") for one in (other, stack))
    if found != expected:
        raise ImageShapeError(
            f"it has {found} pixels, the segmented channel {expected}; measure it in a run that segments it"
        )


def _in_planes(depths: Mapping[int, Sequence[int]], *, projected: bool) -> Iterator[tuple[int, Sequence[int]]]:
    """Yield the time and the depths of each plane that results."""
    for time, own in depths.items():
        yield from [(time, own)] if projected else ((time, [z]) for z in own)


def _of_other(found: Sequence[int], own: Sequence[int], *, projected: bool) -> Sequence[int]:
    """Return the depths at which another channel is measured: all that it has, the same or the only one; or none."""
    return found if projected or len(found) == 1 else [z for z in own if z in found]


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
        f"a pixel is {stated[0]:.6g} x {stated[1]:.6g} um, as the file says, and not --pixel-size {asked:g}, which is "
        "for files that do not say it (if the file is wrong, correct it)",
    )


def _kept(stack: Stack) -> list[int]:
    return [i for i, (axis, n) in enumerate(zip(stack.axes, stack.shape, strict=True)) if n != 1 or axis in "YX"]


def _named_axes(stack: Stack, asked: str | None) -> tuple[str, bool]:
    """Name the axes of the stack.

    Returns
    -------
    axes : str
        Of the stack, with unknown ones named as asked; axes of length 1 are `UNKNOWN`.
    are_colours : bool
        Whether channels were named as the samples of a colour.
    """
    kept = _kept(stack)
    found = "".join(stack.axes[i] for i in kept)
    if asked is None:
        if UNKNOWN in found or len(set(found)) < len(found):
            raise UndecidedError(
                f"a stack of {stack.found} and does not say what {UNKNOWN} is",
                f"name all axes with --axes {_choices(found)} (T time, C channels, Z depth), or save each image as a "
                "file",
            )
        asked = found
    if len(asked) == len(stack.axes) > len(found):
        asked = "".join(asked[i] for i in kept)
    if len(asked) != len(found):
        raise ImageShapeError(
            f"the option --axes {asked} names {len(asked)} dimensions, the file holds {len(found)} ({stack.found})"
        )
    if not _agree(found, asked):
        raise ImageShapeError(
            f"the option --axes {asked} contradicts the file, which says {stack.found}; leave out --axes"
        )
    named = dict(zip(kept, asked, strict=True))
    axes = "".join(named.get(i, UNKNOWN) for i in range(len(stack.axes)))
    are_colours = "S" in axes and stack.axes[axes.index("S")] != "S"
    return axes.replace("S", "C") if are_colours else axes, are_colours


def _agree(found: str, asked: str) -> bool:
    """Whether the axes that are asked for are the file's, apart from unknown ones, and from channels as colours."""
    return all(
        theirs == ours or (ours == UNKNOWN and theirs not in "YX") or (ours == "C" and theirs == "S")
        for ours, theirs in zip(found, asked, strict=True)
    )


def _choices(found: str) -> str:
    free = [axis for axis in "TZC" if axis not in found]
    if found.count(UNKNOWN) > len(free) or len(set(found)) + found.count(UNKNOWN) <= len(found):
        return "..."
    if found.count(UNKNOWN) > 1:
        return found.replace(UNKNOWN, free[0], 1).replace(UNKNOWN, free[1], 1) + " or the like"
    *others, last = [found.replace(UNKNOWN, axis) for axis in free]
    return f"{', '.join(others)} or {last}" if others else last


def _reader(
    stack: Stack, indices: Sequence[Sequence[tuple[int, ...]]], sample: int | None, shape: tuple[int, ...]
) -> Callable[[slice, slice], Image]:
    """Return a function that reads a region of one plane: for each channel the maximum over the planes at its indices.

    Several channels become colours.
    """

    def read(rows: slice, columns: slice) -> Image:
        if not (0 <= rows.start < rows.stop <= shape[0] and 0 <= columns.start < columns.stop <= shape[1]):
            raise ValueError(f"found rows {rows} and columns {columns}, expected a region within {shape[:2]}")
        channels = [reduce(np.maximum, (stack.read(index, rows, columns) for index in own)) for own in indices]
        image = channels[0] if len(channels) == 1 else np.stack(channels, axis=-1)
        if sample is not None:
            image = image[..., sample]
        check_image(image)
        return image

    return read


class _LastRead:
    """Keeps the whole plane that was read last, for files that can only be read in whole planes."""

    def __init__(self) -> None:
        self._kept: tuple[object, Image] | None = None

    def reader(
        self, key: object, read: Callable[[slice, slice], Image], shape: tuple[int, ...]
    ) -> Callable[[slice, slice], Image]:
        """Return a function that reads the whole plane once and cuts regions from it."""

        def read_region(rows: slice, columns: slice) -> Image:
            kept = self._kept
            if kept is None or kept[0] != key:
                self._kept = None  # free it before the next one is read
                kept = key, read(slice(0, shape[0]), slice(0, shape[1]))
                self._kept = kept
            return kept[1][rows, columns]

        return read_region
