"""Keeps the blocks of a plane in a file, so that a process that takes over continues after the last complete one.

Only the nuclei and their signs are kept: everything else follows from them. The file is a sequence of entries: the
bounds of the window, the number of nuclei whose signs are known, the length of what follows and a checksum, then the
signs and the labels, deflated. A process may be killed while it writes: an entry that is not whole, and whatever
follows it, does not count.
"""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np

from nuclei_runtime.arrays import Labels
from nuclei_runtime.steps.score import N_SIGNS, NucleusSigns

_ENTRY = struct.Struct("<7Q")
_LEVEL = 1
"""The fastest compression: labels shrink to a fiftieth anyway."""


@dataclass(frozen=True, eq=False)
class Found:
    """The nuclei of a block.

    Attributes
    ----------
    rows, columns : slice
        A window with all of their pixels.
    labels : (h, w) ndarray of int32
        Their numbers in the plane.
    signs : (n, 3) ndarray
        See `nuclei_runtime.steps.score.nucleus_signs`; without rows if the model's card has no score.
    """

    rows: slice
    columns: slice
    labels: Labels
    signs: NucleusSigns


class KeptBlocks:
    """The blocks that are found of one plane, in order. Use it in a ``with`` statement.

    Parameters
    ----------
    path : Path, optional
        The file, which may hold blocks that an earlier process has kept. Its name must stand for everything that the
        blocks depend on. Without a path, nothing is kept.

    Attributes
    ----------
    count : int
        How many blocks an earlier process has kept.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self.count = 0
        self._left = 0

    def __enter__(self) -> KeptBlocks:
        if self._path is not None:
            self._file = self._path.open("r+b" if self._path.exists() else "w+b", buffering=0)
            while self._read() is not None:
                self.count += 1
            self._file.truncate()
            self._file.seek(0)
            self._left = self.count
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()

    def take(self) -> Found | None:
        """Return the next block that was kept; None if there are no more."""
        if self._left == 0:
            return None
        self._left -= 1
        entry = self._read()
        if entry is None:
            raise OSError(f"{self._path}: changed while it was read")
        (*bounds, n_scored), data = entry
        rows, columns = slice(*bounds[:2]), slice(*bounds[2:])
        values = bytearray(zlib.decompress(data))
        signs = np.frombuffer(values, "<f8", n_scored * N_SIGNS).reshape(n_scored, N_SIGNS)
        labels = np.frombuffer(values, "<i4", offset=8 * n_scored * N_SIGNS)
        return Found(rows, columns, labels.reshape(rows.stop - rows.start, columns.stop - columns.start), signs)

    def add(self, found: Found) -> None:
        """Keep a block.

        Raises
        ------
        OSError
            The file cannot be written.
        """
        if self._file is None:
            return
        values = found.signs.astype("<f8", copy=False).tobytes() + found.labels.astype("<i4", copy=False).tobytes()
        data = zlib.compress(values, _LEVEL)
        rows, columns = found.rows, found.columns
        head = (rows.start, rows.stop, columns.start, columns.stop, len(found.signs))
        entry = memoryview(_ENTRY.pack(*head, len(data), _checksum(head, data)) + data)
        while entry:
            entry = entry[self._file.write(entry) :]

    def _read(self) -> tuple[tuple[int, ...], bytes] | None:
        """Read the next entry; None if it is not whole: then the file is where it begins."""
        assert self._file is not None
        start = self._file.tell()
        head = self._file.read(_ENTRY.size)
        if len(head) == _ENTRY.size:
            *known, n_bytes, checksum = _ENTRY.unpack(head)
            if n_bytes <= os.fstat(self._file.fileno()).st_size:
                data = self._file.read(n_bytes)
                if len(data) == n_bytes and _checksum(known, data) == checksum:
                    return tuple(known), data
        self._file.seek(start)
        return None


def _checksum(head: tuple[int, ...] | list[int], data: bytes) -> int:
    return zlib.crc32(data, zlib.crc32(struct.pack("<5Q", *head)))
