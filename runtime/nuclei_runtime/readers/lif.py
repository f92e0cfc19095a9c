"""Reads LIF files of Leica: each series, and each tile of a tile scan, is an image. Needs the extra `lif`.

The package liffile finds the series and their pixels in the file. Where a pixel lies follows from the strides that the
metadata give for each dimension and channel, so that regions are read without their frames.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.arrays import Image
from nuclei_runtime.errors import ImageReadError, ImageShapeError
from nuclei_runtime.readers.axes import Stack
from nuclei_runtime.readers.bounds import check_claim
from nuclei_runtime.readers.pixel_size import in_micrometres
from nuclei_runtime.readers.scenes import Contents, Scene

_DIMENSIONS = {1: "X", 2: "Y", 3: "Z", 4: "T", 5: "emission", 6: "rotation", 7: "XT", 8: "slices", 9: "excitation"}
_DIMENSIONS |= {10: "tile", 11: "loop"}
"""DimID of the XML schema of LAS AF."""

_WAVELENGTHS = ("emission", "excitation")
_MAX_STRIDE_BYTES = 1 << 12
"""Pixels of a row that lie further apart are read one by one: an image seen from the side."""


def open_lif(source: BinaryIO | Path, resources: ExitStack) -> Contents:
    """Return the series of a LIF, and of a tile scan each tile.

    Raises
    ------
    ImageReadError, ImageShapeError
        See `nuclei_runtime.readers.opening.read_image`.
    """
    import liffile

    file = cast(BinaryIO, source)
    file_bytes = file.seek(0, 2)
    file.seek(0)
    document: Any = resources.enter_context(liffile.LifFile(file))
    scenes = [scene for series in document.images for scene in _scenes(file, file_bytes, series)]
    if not scenes:
        raise ImageReadError("the LIF holds no image; it may be truncated")
    return scenes


@dataclass(frozen=True)
class _Dimension:
    name: str
    n: int
    stride: int
    origin: float
    step: float
    unit: str


@dataclass(frozen=True)
class _Channel:
    dtype: np.dtype[Any]
    offset: int
    tag: int
    name: str


def _scenes(file: BinaryIO, file_bytes: int, series: Any) -> Iterator[Scene]:
    name, dimensions = str(series.path), _dimensions(series)
    tiles = next((dimension for dimension in dimensions if dimension.name == "tile"), None)
    if tiles is None:
        yield Scene(name, partial(_stack, file, file_bytes, series, dimensions, 0))
        return
    rest = [dimension for dimension in dimensions if dimension is not tiles]
    for i in range(tiles.n):
        yield Scene(f"{name}, tile {i}", partial(_stack, file, file_bytes, series, rest, i * tiles.stride))


def _dimensions(series: Any) -> list[_Dimension]:
    """Return the dimensions with more than one element, from the outermost to the innermost."""
    found = []
    for element in series.xml_element.iterfind("./Data/Image/ImageDescription/Dimensions/DimensionDescription"):
        n = int(element.get("NumberOfElements"))
        name = _DIMENSIONS.get(int(element.get("DimID")), "?")
        # The length is that from the first to the last element.
        step = abs(float(element.get("Length"))) / (n - 1) if n > 1 else 0.0
        if n > 1 or name in "XY":
            origin, unit = float(element.get("Origin")), element.get("Unit") or ""
            found.append(_Dimension(name, n, int(element.get("BytesInc")), origin, step, unit))
    return sorted(found, key=lambda dimension: dimension.stride, reverse=True)


def _channels(series: Any) -> list[_Channel]:
    found = []
    for element in series.xml_element.iterfind("./Data/Image/ImageDescription/Channels/ChannelDescription"):
        bits, kind = int(element.get("Resolution")), {"0": "u", "1": "f"}.get(element.get("DataType"))
        n_bytes = next((n for n in (1, 2, 4, 8) if bits <= 8 * n), 0)
        if kind is None or not n_bytes or bits < 1 or (kind == "f" and n_bytes == 1):
            raise ImageReadError(f"the LIF holds pixels of {bits} bits of an unknown type")
        dtype = np.dtype(f"<{kind}{n_bytes}")
        found.append(
            _Channel(dtype, int(element.get("BytesInc")), int(element.get("ChannelTag")), element.get("LUTName") or "")
        )
    if not found:
        raise ImageReadError("the LIF series states no channels; it may be damaged")
    return found


def _stack(file: BinaryIO, file_bytes: int, series: Any, dimensions: Sequence[_Dimension], start: int) -> Stack:
    channels = _channels(series)
    length = {dimension.name: dimension for dimension in dimensions}
    unknown = [dimension.name for dimension in dimensions if dimension.name not in (*"TZYX", *_WAVELENGTHS)]
    if unknown or len(length) < len(dimensions):
        found = ", ".join(unknown) or "one of them twice"
        raise ImageShapeError(f"the LIF series has dimensions that are not understood ({found}); export it as OME-TIFF")
    if not {"Y", "X"} <= length.keys() or 1 in (length["Y"].n, length["X"].n):
        axes = "".join(dimension.name for dimension in dimensions if dimension.n > 1)
        raise ImageShapeError(
            f"the LIF series is a scan with axes {axes}, not an image in X and Y, so it shows no outlines of nuclei"
        )
    lead = [dimension for dimension in dimensions if dimension.name in "TZ"]
    waves = [dimension for dimension in dimensions if dimension.name in _WAVELENGTHS]
    if len(waves) > 1 or (waves and len(channels) > 1):
        raise ImageShapeError("the LIF series sweeps wavelengths in several channels; export those to segment")
    is_colour = sorted(channel.tag for channel in channels) == [1, 2, 3]
    names = [channel.name for channel in channels]
    if is_colour:
        channels = sorted(channels, key=lambda channel: channel.tag)  # 1 red, 2 green, 3 blue
    elif waves:
        (wave,), (channel,) = waves, channels
        channels = [replace(channel, offset=i * wave.stride) for i in range(wave.n)]
        names = _wavelengths(wave)
    return _Pixels(file, file_bytes, series, length["Y"], length["X"], start).stack(lead, channels, names, is_colour)


def _wavelengths(wave: _Dimension) -> list[str]:
    """Name the steps of a sweep by their wavelengths."""
    known = in_micrometres((wave.origin, wave.step), (wave.unit, wave.unit))
    return [f"{1000 * (known[0] + i * known[1]):.0f} nm" for i in range(wave.n)] if known else []


@dataclass(frozen=True)
class _Pixels:
    """Where the pixels of a series are."""

    file: BinaryIO
    file_bytes: int
    series: Any
    rows: _Dimension
    columns: _Dimension
    start: int

    def stack(
        self, lead: Sequence[_Dimension], channels: Sequence[_Channel], names: Sequence[str], is_colour: bool
    ) -> Stack:
        block = self.series.memory_block
        if block.frames:
            raise ImageReadError("the pixels of the LIF series are in other files; save the project as a single LIF")
        dtype = np.result_type(*(channel.dtype for channel in channels))
        ends = [self.start + channel.offset + channel.dtype.itemsize for channel in channels]
        strides = [(dimension.n, dimension.stride) for dimension in (*lead, self.rows, self.columns)]
        last = max(ends) + sum((n - 1) * stride for n, stride in strides)
        if min(stride for _, stride in strides) < 1 or min(channel.offset for channel in channels) < 0:
            raise ImageReadError("the LIF is damaged: its dimensions overlap")
        check_claim("LIF series", self.rows.n * self.columns.n * dtype.itemsize, self.file_bytes)
        if last > block.size or block.offset + last > self.file_bytes:
            raise ImageReadError(f"the LIF is truncated or damaged: pixels end at byte {last} of {block.size}")

        def read(index: tuple[int, ...], rows: slice, columns: slice) -> Image:
            at = zip(index, lead, strict=False)
            first = block.offset + self.start + sum(i * dimension.stride for i, dimension in at)
            if is_colour:
                planes = [self._read(first, channel, rows, columns) for channel in channels]
                return np.stack(planes, axis=2)
            return self._read(first, channels[index[-1]], rows, columns).astype(dtype, copy=False)

        return Stack(
            axes="".join(dimension.name for dimension in lead) + ("YXS" if is_colour else "CYX"),
            shape=(
                *(dimension.n for dimension in lead),
                *([] if is_colour else [len(channels)]),
                self.rows.n,
                self.columns.n,
                *([3] if is_colour else []),
            ),
            dtype=dtype,
            channels=tuple(names) if len(names) == len(channels) and all(names) else (),
            pixel_size_um=in_micrometres((self.rows.step, self.columns.step), (self.rows.unit, self.columns.unit)),
            read=read,
            reads_blocks=True,
        )

    def _read(self, first: int, channel: _Channel, rows: slice, columns: slice) -> NDArray[Any]:
        """Read a region of one channel, row by row."""
        start = first + channel.offset + columns.start * self.columns.stride
        n, stride = columns.stop - columns.start, self.columns.stride
        region = np.empty((rows.stop - rows.start, n), channel.dtype)
        for i, row in enumerate(range(rows.start, rows.stop)):
            here = start + row * self.rows.stride
            if stride > _MAX_STRIDE_BYTES:
                pieces = [self._bytes(here + j * stride, channel.dtype.itemsize) for j in range(n)]
                region[i] = np.frombuffer(b"".join(pieces), channel.dtype)
            else:
                data = self._bytes(here, (n - 1) * stride + channel.dtype.itemsize)
                region[i] = np.ndarray((n,), channel.dtype, data, 0, (stride,))
        return region

    def _bytes(self, start: int, n_bytes: int) -> bytes:
        self.file.seek(start)
        data = self.file.read(n_bytes)
        if len(data) < n_bytes:
            raise ImageReadError("the LIF became shorter while it was read")
        return data
