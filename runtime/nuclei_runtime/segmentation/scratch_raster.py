"""A scratch raster of any size, read and written window by window. What does not fit into memory goes to disk."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import IO, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from nuclei_runtime.faults import machine_error

CHUNK_PX = 256
"""Side of the squares that move between file and memory: large enough to make the cost of a seek negligible, small
enough that a window drags in little beyond its own edges."""

_Key = tuple[int, int]
"""Row and column of a chunk."""


class ScratchRaster:
    """A raster of zeros into which windows are written. Use it in a ``with`` statement.

    It keeps up to `memory_bytes` in memory and the rest in an unnamed file in the system's folder for temporary files.
    The system removes that file when the process ends, however it ends.

    Parameters
    ----------
    dtype : dtype
    channels : int, optional
        Values per pixel, as a last axis. Without it, the raster has no such axis.
    memory_bytes : int
        How much of the raster to keep in memory.
    """

    def __init__(self, dtype: DTypeLike, channels: int | None = None, *, memory_bytes: int) -> None:
        self._dtype = np.dtype(dtype)
        self._channels = () if channels is None else (channels,)
        self._chunk_shape = (CHUNK_PX, CHUNK_PX, *self._channels)
        self._chunk_bytes = int(np.prod(self._chunk_shape)) * self._dtype.itemsize
        self._n_in_memory = memory_bytes // self._chunk_bytes
        self._in_memory: dict[_Key, NDArray[Any]] = {}
        self._file: IO[bytes] | None = None
        self._places: dict[_Key, int] = {}
        self._free: list[int] = []
        self._end = 0

    def __enter__(self) -> ScratchRaster:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._in_memory.clear()
        if self._file is not None:
            self._file.close()

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Return a window. Pixels that were never written, or were dropped, are 0."""
        shape = (rows.stop - rows.start, columns.stop - columns.start, *self._channels)
        window = np.zeros(shape, self._dtype)
        for key, in_window, in_chunk in _chunks(rows, columns):
            chunk = self._load(key)
            if chunk is not None:
                window[in_window] = chunk[in_chunk]
        return window

    def write(self, rows: slice, columns: slice, values: NDArray[Any], where: NDArray[np.bool_] | None = None) -> None:
        """Write a window, or only those of its pixels that `where` marks."""
        for key, in_window, in_chunk in _chunks(rows, columns):
            if where is not None and not where[in_window].any():
                continue
            chunk = self._load(key)
            if chunk is None:
                chunk = np.zeros(self._chunk_shape, self._dtype)
            if where is None:
                chunk[in_chunk] = values[in_window]
            else:
                chunk[in_chunk][where[in_window]] = values[in_window][where[in_window]]
            self._store(key, chunk)

    def drop_rows(self, stop: int) -> None:
        """Forget the rows before `stop` and reuse their space. Only whole chunks are dropped."""

        def is_before(key: _Key) -> bool:
            return (key[0] + 1) * CHUNK_PX <= stop

        for key in [*filter(is_before, self._in_memory)]:
            del self._in_memory[key]
        for key in [*filter(is_before, self._places)]:
            self._free.append(self._places.pop(key))

    def _load(self, key: _Key) -> NDArray[Any] | None:
        if key in self._in_memory:
            return self._in_memory[key]
        if self._file is None or key not in self._places:
            return None
        with _temporary_file():
            self._file.seek(self._places[key])
            data = bytearray(self._file.read(self._chunk_bytes))  # writable, which bytes are not
        return np.frombuffer(data, self._dtype).reshape(self._chunk_shape)

    def _store(self, key: _Key, chunk: NDArray[Any]) -> None:
        if key not in self._places and (key in self._in_memory or len(self._in_memory) < self._n_in_memory):
            self._in_memory[key] = chunk
            return
        if self._file is None:
            with _temporary_file():
                # Unbuffered, so that a full disk is noticed at this write and not at a later time.
                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 -- closed by __exit__
        if key not in self._places:
            if not self._free:
                self._free.append(self._end)
                self._end += self._chunk_bytes
            self._places[key] = self._free.pop()
        with _temporary_file():
            self._file.seek(self._places[key])
            data = memoryview(chunk.data).cast("B")
            while data:
                data = data[self._file.write(data) :]


@contextmanager
def _temporary_file() -> Iterator[None]:
    """Say which file an operating system error is about."""
    try:
        yield
    except OSError as error:
        raise machine_error(
            error,
            "the folder for temporary files",
            "it holds data that do not fit into memory: set TMPDIR to a folder on a disk with free space, "
            "or allow more memory",
        ) from error


def _chunks(rows: slice, columns: slice) -> Iterator[tuple[_Key, tuple[slice, slice], tuple[slice, slice]]]:
    """Yield each chunk that a window overlaps: its key, its place in the window, and the window's place in it."""
    for row, in_rows, chunk_rows in _spans(rows):
        for column, in_columns, chunk_columns in _spans(columns):
            yield (row, column), (in_rows, in_columns), (chunk_rows, chunk_columns)


def _spans(window: slice) -> Iterator[tuple[int, slice, slice]]:
    for index in range(window.start // CHUNK_PX, -(-window.stop // CHUNK_PX)):
        first = index * CHUNK_PX
        start, stop = max(window.start, first), min(window.stop, first + CHUNK_PX)
        yield index, slice(start - window.start, stop - window.start), slice(start - first, stop - first)
