"""Decides what each dimension of a file means; refuses what is ambiguous."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from numpy.typing import DTypeLike

from nuclei_runtime.arrays import Image
from nuclei_runtime.errors import ImageShapeError
from nuclei_runtime.readers.channels import UndecidedError
from nuclei_runtime.readers.pixel_size import PixelSize

UNKNOWN = "?"
"""An axis whose meaning the file does not state."""


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

    def as_channel_has_it(self, channel: int) -> Stack:
        """Return the stack with the size, type and pixel size of one of its channels."""
        return self if self.of_channel is None else self.of_channel(channel)


def _kept(stack: Stack) -> list[int]:
    return [i for i, (axis, n) in enumerate(zip(stack.axes, stack.shape, strict=True)) if n != 1 or axis in "YX"]


def named_axes(stack: Stack, asked: str | None) -> tuple[str, bool]:
    """Name the axes of the stack.

    Returns
    -------
    axes : str
        Of the stack, with unknown ones named as asked; axes of length 1 are `UNKNOWN`.
    are_colours : bool
        Whether channels were named as the samples of a colour.

    Raises
    ------
    UndecidedError
        The file does not state the meaning of an axis, and nothing is asked for.
    ImageShapeError
        The file contradicts what is asked for.
    """
    kept = _kept(stack)
    found = "".join(stack.axes[i] for i in kept)
    if asked is None:
        if UNKNOWN in found or len(set(found)) < len(found):
            raise UndecidedError(
                f"a stack of {stack.found} and does not say what {UNKNOWN} is",
                f"name every axis with --axes {_choices(found)} (T time, C channels, Z depth), or save each image as a "
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
