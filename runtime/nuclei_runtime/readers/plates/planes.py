"""A field whose planes are files of their own: each is one channel at one time and depth."""

from __future__ import annotations

import filecmp
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from nuclei_runtime.arrays import Image
from nuclei_runtime.errors import ImageError, ImageReadError
from nuclei_runtime.readers.axes import Stack
from nuclei_runtime.readers.pixel_size import PixelSize
from nuclei_runtime.readers.plates.field import Field, OpenFile

Position = tuple[int, int, int]
"""Time, channel and depth of a plane, from 0."""

_OPEN_FILES = 8
"""How many files of a field stay open: a projection returns to each of its depths."""


@dataclass(frozen=True)
class FieldOfPlanes(Field):
    """A field whose planes are files.

    Attributes
    ----------
    files : mapping of Position to str
        Path of each plane that was taken, relative to the plate, with ``/``; empty if the microscope took it but
        stored nothing.
    channels : tuple of str
    n_times, n_depths : int
        Of the whole plate.
    pixel_sizes_um : tuple of (float, float), each optional
        One per channel, as the index states it; the files themselves may state it too.
    repeats : bool
        Whether the microscope copies a plane to each time and depth at which it did not take its channel.
    """

    files: Mapping[Position, str]
    channels: tuple[str, ...]
    n_times: int
    n_depths: int
    pixel_sizes_um: tuple[PixelSize | None, ...]
    repeats: bool = False

    @property
    def paths(self) -> Sequence[Path]:
        """Its files, by time, channel and depth."""
        return [self.plate / name for _, name in sorted(self.files.items()) if name]

    @property
    def described(self) -> str:
        """What the index says of it."""
        return repr((sorted(self.files.items()), self.channels, self.n_times, self.n_depths, self.pixel_sizes_um))

    def open(self, open_file: OpenFile, resources: ExitStack) -> Stack:
        """Return the planes as one stack; a file is opened when it is needed. Channels may be binned differently.

        Raises
        ------
        ImageReadError
            No file of the field can be opened.
        """
        opened = _OpenFiles(open_file)
        resources.callback(opened.close)
        stack = self._stack(opened, 0)
        is_one_size = len(set(self.pixel_sizes_um)) == 1
        return replace(
            stack,
            pixel_size_um=stack.pixel_size_um if is_one_size else None,
            of_channel=partial(self._stack, opened),
        )

    def _stack(self, opened: _OpenFiles, channel: int) -> Stack:
        """Return the planes as one stack of the size of a channel, or of another one if no file of it can be opened."""
        first = self._first(opened, channel)

        def read(index: tuple[int, ...], rows: slice, columns: slice) -> Image:
            time, of, depth = index
            stack = self._opened(opened, (time, of, depth))
            if (stack.shape, np.dtype(stack.dtype)) != (first.shape, np.dtype(first.dtype)):
                raise ImageReadError(
                    f"{self.files[time, of, depth]}: is {_form(stack)}, but another file of the field is "
                    f"{_form(first)}; {'copy the plate again' if of == channel else 'these channels differ'}"
                )
            return stack.read((0,) * (len(stack.axes) - 2), rows, columns)

        return Stack(
            axes="TCZYX",
            shape=(self.n_times, len(self.channels), self.n_depths, *_size(first)),
            dtype=first.dtype,
            channels=self.channels,
            pixel_size_um=self.pixel_sizes_um[channel] or first.pixel_size_um,
            read=read,
            reads_blocks=first.reads_blocks,
            taken=self.taken,
        )

    def taken(self, channel: int) -> list[tuple[int, int]]:
        """Return the times and depths at which a channel was taken."""
        found = sorted((time, depth) for time, of, depth in self.files if of == channel)
        if not self.repeats:
            return found
        copies = {at for at in found if self._is_copy(channel, *at)}
        for time in range(self.n_times):
            own = [at for at in found if at[0] == time and self._path(channel, *at).is_file()]
            if own and copies >= set(own[1:]) != set():  # taken at one depth, whichever of its copies are missing
                copies |= {at for at in found if at[0] == time and at != own[0]}
        return [at for at in found if at not in copies]

    def _is_copy(self, channel: int, time: int, depth: int) -> bool:
        """Whether the file is a copy of the one before: files that were taken differ at least in their time stamps."""
        own = self._path(channel, time, depth)
        before = [at for at in ((time - 1, depth), (time, depth - 1)) if min(at) >= 0]
        return any(_are_equal(self._path(channel, *at), own) for at in before)

    def _path(self, channel: int, time: int, depth: int) -> Path:
        return self.plate / self.files[time, channel, depth]

    def _first(self, opened: _OpenFiles, channel: int) -> Stack:
        """Return the first plane that can be opened, of this channel if possible; its others should be like it."""
        in_order = sorted(self.files.items(), key=lambda plane: (plane[0][1] != channel, plane[0]))
        error: ImageError | None = None
        for at, name in in_order:
            if name and (self.plate / name).is_file():
                try:
                    return self._opened(opened, at)
                except ImageError as damage:
                    error = error or damage
        if error is not None:
            raise error
        names = [name for name in self.files.values() if name]
        example = f", such as {names[0]}" if names else ""
        raise ImageReadError(
            f"none of the {len(self.files)} files that the index of the plate names for this field exists{example}; "
            "copy the whole plate, or choose other wells with --well"
        )

    def _opened(self, opened: _OpenFiles, at: Position) -> Stack:
        name = self.files.get(at)
        if not name:
            what = f"channel {self.channels[at[1]]} at time {at[0]} and depth {at[2]}"
            raise ImageReadError(f"the index of the plate names no file for {what}: the microscope stored none")
        path = self.plate / name
        if not path.is_file():
            raise ImageReadError(f"{name} is missing, although the index of the plate names it; copy the whole plate")
        try:
            return opened.open(path)
        except ImageError as error:
            raise ImageReadError(f"{name}: {error}") from error


class _OpenFiles:
    """Keeps the files open that were used last."""

    def __init__(self, open_file: OpenFile) -> None:
        self._open_file = open_file
        self._kept: OrderedDict[Path, tuple[Stack, ExitStack]] = OrderedDict()

    def open(self, path: Path) -> Stack:
        """Return the single grey plane that a file holds."""
        if path in self._kept:
            self._kept.move_to_end(path)
            return self._kept[path][0]
        while len(self._kept) >= _OPEN_FILES:
            self._kept.popitem(last=False)[1][1].close()
        with ExitStack() as resources:
            contents = self._open_file(path, resources)
            if not isinstance(contents, Stack) and len(contents) == 1:
                contents = contents[0].open()
            if not isinstance(contents, Stack) or any(_other_lengths(contents)):
                found = contents.found if isinstance(contents, Stack) else f"{len(contents)} images"
                raise ImageReadError(f"holds {found}, but a file of a plate holds one grey plane")
            self._kept[path] = contents, resources.pop_all()
        return contents

    def close(self) -> None:
        """Close all files."""
        while self._kept:
            self._kept.popitem()[1][1].close()


def _other_lengths(stack: Stack) -> Iterator[bool]:
    return (axis == "S" or n != 1 for axis, n in zip(stack.axes, stack.shape, strict=True) if axis not in "YX")


def _size(stack: Stack) -> tuple[int, int]:
    return stack.shape[stack.axes.index("Y")], stack.shape[stack.axes.index("X")]


def _form(stack: Stack) -> str:
    height, width = _size(stack)
    return f"{height} x {width} pixels of {np.dtype(stack.dtype)}"


def _are_equal(one: Path, other: Path) -> bool:
    try:
        return filecmp.cmp(one, other, shallow=False)
    except OSError:  # missing, which reading will report
        return False
