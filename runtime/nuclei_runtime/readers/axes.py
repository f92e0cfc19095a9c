"""Decides what each dimension of a file means and which planes that gives; refuses what is ambiguous."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

import numpy as np
from numpy.typing import DTypeLike

from nuclei_runtime.arrays import Image, check_form, check_image
from nuclei_runtime.errors import ImageShapeError
from nuclei_runtime.readers.pixel_size import PixelSize
from nuclei_runtime.readers.plane import Plane, Selection

UNKNOWN = "?"
"""An axis whose meaning the file does not state."""

_SAMPLES = ("red", "green", "blue", "alpha")


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
    """

    axes: str
    shape: tuple[int, ...]
    dtype: DTypeLike
    channels: tuple[str, ...]
    pixel_size_um: PixelSize | None
    read: Callable[[tuple[int, ...], slice, slice], Image]
    reads_blocks: bool
    coarser: tuple[Stack, ...] = ()

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
    axes = _named_axes(stack, selection.axes)
    length = dict(zip(axes, stack.shape, strict=True))
    sample = None
    if length.get("C", 1) > 1:
        channel = _channel(stack, length["C"], stack.channels, selection.channel)
    elif length.get("S", 1) > 1 and selection.channel is not None:
        channel, sample = 0, _channel(stack, length["S"], _SAMPLES[: length["S"]], selection.channel)
    else:
        channel = 0 if selection.channel is None else _channel(stack, 1, stack.channels, selection.channel)
    n_z = length.get("Z", 1)
    if n_z > 1 and selection.z is None:
        raise ImageShapeError(
            f"the file holds a Z stack of {n_z} planes ({stack.found}); choose with --z each (every plane on its own) "
            "or --z max (their maximum)"
        )
    projected = selection.z == "max"
    together = prod(stack.shape[stack.axes.index("X") + 1 :])  # axes after X are interleaved: they are decoded together
    shape = (length["Y"], length["X"], *([length["S"]] if length.get("S", 1) > 1 and sample is None else []))
    check_form(shape, np.dtype(stack.dtype))
    times: Sequence[int | None] = range(length["T"]) if length.get("T", 1) > 1 else [None]
    depths: Sequence[int | None] = range(n_z) if n_z > 1 and not projected else [None]
    last_read = _LastRead()
    planes = []
    for time, z in product(times, depths):
        at = {"T": [time or 0], "C": [channel], "Z": range(n_z) if projected else [z or 0]}
        leading = [axis for axis, own in zip(axes, stack.axes, strict=True) if own not in "YXS"]
        indices = list(product(*(at.get(axis, [0]) for axis in leading)))
        read = _reader(stack, indices, sample, shape)
        if not stack.reads_blocks:
            read = last_read.reader((time, z), read, shape)
        planes.append(
            Plane(
                time,
                z,
                shape,
                stack.dtype,
                stack.pixel_size_um,
                read,
                stack.reads_blocks,
                channels_together=together // prod(shape[2:]),
            )
        )
    return planes


def _kept(stack: Stack) -> list[int]:
    return [i for i, (axis, n) in enumerate(zip(stack.axes, stack.shape, strict=True)) if n != 1 or axis in "YX"]


def _named_axes(stack: Stack, asked: str | None) -> str:
    """Return the axes of the stack, with unknown ones named as asked; axes of length 1 become `UNKNOWN`."""
    kept = _kept(stack)
    found = "".join(stack.axes[i] for i in kept)
    if asked is None:
        if UNKNOWN in found or len(set(found)) < len(found):
            raise ImageShapeError(
                f"the file holds a stack of {stack.found} and does not say what {UNKNOWN} is: name all axes with "
                f"--axes {_choices(found)} (T time, C channels, Z depth), or save each image as a file"
            )
        asked = found
    if len(asked) == len(stack.axes) > len(found):
        asked = "".join(asked[i] for i in kept)
    if len(asked) != len(found):
        raise ImageShapeError(
            f"--axes {asked} names {len(asked)} dimensions, the file holds {len(found)} ({stack.found})"
        )
    if not _agree(found, asked):
        raise ImageShapeError(f"--axes {asked} contradicts the file, which says {stack.found}; leave out --axes")
    named = dict(zip(kept, asked, strict=True))
    return "".join(named.get(i, UNKNOWN) for i in range(len(stack.axes)))


def _agree(found: str, asked: str) -> bool:
    return all(ours in (UNKNOWN, theirs) for ours, theirs in zip(found, asked, strict=True)) and not any(
        theirs in "YXS" for ours, theirs in zip(found, asked, strict=True) if ours == UNKNOWN
    )


def _choices(found: str) -> str:
    free = [axis for axis in "TZC" if axis not in found]
    if found.count(UNKNOWN) > len(free) or len(set(found)) + found.count(UNKNOWN) <= len(found):
        return "..."
    if found.count(UNKNOWN) > 1:
        return found.replace(UNKNOWN, free[0], 1).replace(UNKNOWN, free[1], 1) + " or the like"
    *others, last = [found.replace(UNKNOWN, axis) for axis in free]
    return f"{', '.join(others)} or {last}" if others else last


def _channel(stack: Stack, n: int, names: Sequence[str], asked: str | int | None) -> int:
    """Return the index of the channel with a name or index; a name takes precedence, even one that is a number."""
    numbered = "0" if n == 1 else f"0 to {n - 1}"
    listed = ", ".join(f"{i} {name}" for i, name in enumerate(names)) if len(names) == n else numbered
    if asked is None:
        raise ImageShapeError(
            f"the file holds a stack of {n} channels ({stack.found}); choose one with --channel: {listed}"
        )
    if isinstance(asked, str) and len(names) == n:
        for spelled in (list(names), [name.casefold() for name in names]):
            matches = [i for i, name in enumerate(spelled) if name in (asked, asked.casefold())]
            if len(matches) == 1:
                return matches[0]
            if matches:
                raise ImageShapeError(f"{len(matches)} channels are called {asked}; choose by index: {listed}")
    if isinstance(asked, int) or (asked.isascii() and asked.isdigit() and len(asked) < 10):
        index = int(asked)
        if 0 <= index < n:
            return index
    raise ImageShapeError(f"there is no channel {asked} in the file ({stack.found}); its channels: {listed}")


def _reader(
    stack: Stack, indices: Sequence[tuple[int, ...]], sample: int | None, shape: tuple[int, ...]
) -> Callable[[slice, slice], Image]:
    """Return a function that reads a region of one plane, or of the maximum over several planes."""

    def read(rows: slice, columns: slice) -> Image:
        if not (0 <= rows.start < rows.stop <= shape[0] and 0 <= columns.start < columns.stop <= shape[1]):
            raise ValueError(f"found rows {rows} and columns {columns}, expected a region within {shape[:2]}")
        image = stack.read(indices[0], rows, columns)
        for index in indices[1:]:
            image = np.maximum(image, stack.read(index, rows, columns))
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
