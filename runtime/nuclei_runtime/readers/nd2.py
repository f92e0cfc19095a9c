"""Reads ND2 files of Nikon. Needs the extra `nd2`.

The package nd2 reads the metadata and finds the frames. The pixels are read here: it gives zeros for a frame that is
missing, and decompresses without a bound.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from nuclei_runtime.arrays import Image
from nuclei_runtime.errors import ImageReadError, ImageShapeError
from nuclei_runtime.readers.axes import UNKNOWN, Stack
from nuclei_runtime.readers.bounds import check_claim
from nuclei_runtime.readers.pixel_size import PixelSize, in_micrometres
from nuclei_runtime.readers.scenes import Contents, Scene

_LOOPS = {"TimeLoop": "T", "NETimeLoop": "T", "ZStackLoop": "Z", "XYPosLoop": "P"}
_POSITION = "P"
_BEFORE_PIXELS = 24 + 4072
"""From the start of a frame's chunk to its pixels, as in the package nd2: the header of the chunk with the time stamp,
which counts as part of its contents, and padding."""

_TIME_STAMP = 8


def open_nd2(source: BinaryIO | Path, resources: ExitStack) -> Contents:
    """Return the positions of an ND2, or its single image.

    Raises
    ------
    ImageReadError, ImageShapeError
        See `nuclei_runtime.readers.opening.read_image`.
    """
    import nd2

    file = cast(BinaryIO, source)
    document: Any = resources.enter_context(nd2.ND2File(file))
    frames = _Frames(file, document)
    loops = [(_LOOPS.get(loop.type, UNKNOWN), int(loop.count)) for loop in document.experiment]
    axes = "".join(axis for axis, _ in loops)
    if any(axis == UNKNOWN and n > 1 for axis, n in loops) or len(set(axes)) < len(axes):
        kinds = ", ".join(loop.type for loop in document.experiment)
        raise ImageShapeError(f"the ND2 repeats its images in loops of {kinds}, not all of which are understood")
    n_positions = dict(loops).get(_POSITION, 1)
    names = _position_names(document.experiment, n_positions)
    return [Scene(name, partial(_stack, document, frames, loops, i)) for i, name in enumerate(names)]


def _stack(document: Any, frames: _Frames, loops: Sequence[tuple[str, int]], position: int) -> Stack:
    lengths = [n for _, n in loops]
    lead = [(axis, n) for axis, n in loops if axis != _POSITION]
    n_channels, n_samples = frames.n_channels, frames.n_samples
    is_colour = n_samples == 3

    def read(index: tuple[int, ...], rows: slice, columns: slice) -> Image:
        *index_in_loops, channel = index
        at = iter(index_in_loops)
        where = [position if axis == _POSITION else next(at) for axis, _ in loops]
        n = int(np.ravel_multi_index(where, lengths)) if lengths else 0
        region = frames.read(n, rows, columns)
        if is_colour:
            return region[:, :, channel, ::-1]  # stored as blue, green, red
        return region.reshape(*region.shape[:2], -1)[..., channel]

    channels = n_channels if is_colour else n_channels * n_samples
    names = tuple(str(channel.channel.name) for channel in document.metadata.channels or ())
    return Stack(
        axes="".join(axis for axis, _ in lead) + ("CYXS" if is_colour else "CYX"),
        shape=(*(n for _, n in lead), channels, frames.height, frames.width, *([3] if is_colour else [])),
        dtype=frames.dtype,
        channels=names if len(names) == channels and all(names) else (),
        pixel_size_um=_pixel_size(document),
        read=read,
        reads_blocks=not frames.is_compressed,
    )


@dataclass(frozen=True)
class _Frame:
    start: int
    n_bytes: int


class _Frames:
    """Reads regions of frames: pixels of (channels, samples), row by row."""

    def __init__(self, file: BinaryIO, document: Any) -> None:
        self._file = file
        self._size = file.seek(0, 2)
        attributes = document.attributes
        self.height, self.width = int(attributes.heightPx), int(attributes.widthPx or 0)
        self.n_channels = int(attributes.channelCount or 1)
        n_components = int(attributes.componentCount)
        self.n_samples = n_components // self.n_channels
        self.is_compressed = attributes.compressionType is not None
        if attributes.compressionType not in (None, "lossless"):
            raise ImageReadError(
                f"the ND2 is compressed as {attributes.compressionType}; save it with lossless compression"
            )
        bits, kind = int(attributes.bitsPerComponentInMemory), attributes.pixelDataType or "unsigned"
        if bits not in (8, 16, 32) or kind not in ("unsigned", "float") or n_components % self.n_channels:
            raise ImageReadError(f"the ND2 holds {n_components} components of {bits} bits, {kind}: not understood")
        self.dtype = np.dtype(f"<{kind[0]}{bits // 8}")
        self._pixel = n_components * self.dtype.itemsize
        self._row_bytes = int(attributes.widthBytes or self.width * self._pixel)
        if min(self.height, self.width) < 1 or self._row_bytes < self.width * self._pixel:
            raise ImageReadError(f"the ND2 is damaged: rows of {self._row_bytes} bytes for {self.width} pixels")
        if min(self.height, self.width) == 1:
            raise ImageShapeError("the ND2 is a line scan, not an image; there is nothing to segment")
        check_claim("ND2", self.height * self._row_bytes, self._size)
        self._frames = dict(_frames(document))
        self._decompressed = lru_cache(maxsize=1)(self._decompress)

    def read(self, n: int, rows: slice, columns: slice) -> Image:
        """Return a region of frame `n`: (h, w, channels, samples)."""
        if n not in self._frames:
            raise ImageReadError(f"frame {n} is not in the ND2: the acquisition was stopped, or the file is truncated")
        if self.is_compressed:
            data = memoryview(self._decompressed(n))[rows.start * self._row_bytes :]
        else:
            start = self._frames[n].start + _BEFORE_PIXELS + rows.start * self._row_bytes
            data = memoryview(self._bytes(start, (rows.stop - rows.start) * self._row_bytes))
        shape = (rows.stop - rows.start, columns.stop - columns.start, self.n_channels, self.n_samples)
        strides = (self._row_bytes, self._pixel, self.n_samples * self.dtype.itemsize, self.dtype.itemsize)
        offset = columns.start * self._pixel
        return np.ndarray(shape, self.dtype, data, offset, strides).copy()

    def _bytes(self, start: int, n_bytes: int) -> bytes:
        if start < 0 or start + n_bytes > self._size:
            raise ImageReadError(
                f"the ND2 is truncated: pixels end at byte {start + n_bytes}, the file at {self._size}"
            )
        self._file.seek(start)
        data = self._file.read(n_bytes)
        if len(data) < n_bytes:
            raise ImageReadError("the ND2 became shorter while it was read")
        return data

    def _decompress(self, n: int) -> bytes:
        frame, due = self._frames[n], self.height * self._row_bytes
        data = self._bytes(frame.start + _BEFORE_PIXELS, frame.n_bytes - _TIME_STAMP)
        pixels = zlib.decompressobj().decompress(data, due)
        if len(pixels) < due:
            raise ImageReadError(f"the ND2 is damaged: frame {n} holds {len(pixels)} of {due} bytes")
        return pixels


def _frames(document: Any) -> Iterator[tuple[int, _Frame]]:
    """Yield the number of each frame in the file with its place."""
    chunks: Mapping[bytes, tuple[int, int]] = document._rdr.chunkmap
    for name, (start, n_bytes) in chunks.items():
        kind, _, number = name.partition(b"|")
        if kind == b"ImageDataSeq" and number[:-1].isdigit():
            yield int(number[:-1]), _Frame(int(start), int(n_bytes))


def _position_names(experiment: Sequence[Any], n: int) -> list[str]:
    points = [point for loop in experiment if loop.type == "XYPosLoop" for point in loop.parameters.points]
    return [str(point.name or "") for point in points] if len(points) == n else [""] * n


def _pixel_size(document: Any) -> PixelSize | None:
    """Return the size of a pixel, unless the microscope was not calibrated."""
    channels = document.metadata.channels
    if not channels or not all(channels[0].volume.axesCalibrated[:2]):
        return None
    across, down = channels[0].volume.axesCalibration[:2]
    return in_micrometres((down, across), ("um", "um"))
