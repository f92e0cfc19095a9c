"""Checks the chains of sectors of a compound file before a library follows them, as one in a circle never ends.

Structure: Microsoft's [MS-CFB], sections 2.2 to 2.5: header, FAT, mini FAT, DIFAT.
"""

from __future__ import annotations

from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.errors import ImageReadError

_HEADER_BYTES = 512
_SHIFT_AT, _FAT_AT, _DIFAT_AT = 30, 44, 76
"""Where the size of a sector, the number of FAT sectors, and the numbers of the first 109 of these are."""
_MINI_FAT_AND_DIFAT_AT = 60
"""The first sector and the number of sectors of the mini FAT, and then of the DIFAT."""
_SECTOR_SHIFTS = (9, 12)


def check_chains(file: BinaryIO) -> None:
    """Refuse a compound file whose chains lead out of the file or in a circle.

    Raises
    ------
    ImageReadError
    """
    n_bytes = file.seek(0, 2)
    file.seek(0)
    header = file.read(_HEADER_BYTES)
    if len(header) < _HEADER_BYTES:
        raise ImageReadError("the file is truncated within its header")
    shift = int(np.frombuffer(header, "<u2", 1, _SHIFT_AT)[0])
    n_fat = int(np.frombuffer(header, "<u4", 1, _FAT_AT)[0])
    mini_at, n_mini, difat_at, n_difat = map(int, np.frombuffer(header, "<u4", 4, _MINI_FAT_AND_DIFAT_AT))
    if shift not in _SECTOR_SHIFTS or (n_fat + n_mini + n_difat) << shift > n_bytes:
        raise ImageReadError("the file is damaged: its table of sectors is larger than the file")

    def sector(number: int) -> NDArray[np.uint32]:
        file.seek((number + 1) << shift)  # the header takes the place of one
        data = file.read(1 << shift)
        if len(data) < 1 << shift:
            raise ImageReadError(f"the file is truncated or damaged: sector {number} is not in it")
        return np.frombuffer(data, "<u4")

    numbers = list(np.frombuffer(header, "<u4", offset=_DIFAT_AT))
    for _ in range(n_difat):
        *more, difat_at = map(int, sector(difat_at))
        numbers += more
    fat = _chained([sector(int(number)) for number in numbers[:n_fat]])
    mini: list[NDArray[np.uint32]] = []
    while len(mini) < n_mini and mini_at < len(fat):
        mini.append(sector(mini_at))
        mini_at = int(fat[mini_at])
    _chained(mini)


def _chained(sectors: list[NDArray[np.uint32]]) -> NDArray[np.uint32]:
    """Return the table, which gives for each sector the next; refuse it if a chain does not end."""
    table = np.concatenate([*sectors, np.empty(0, np.uint32)])
    end = len(table)
    ahead = np.append(np.minimum(table, end), end).astype(np.int64)
    for _ in range(end.bit_length()):  # each time twice as far
        ahead = ahead[ahead]
    if (ahead != end).any():
        raise ImageReadError("the file is damaged: a chain of its sectors runs in a circle")
    return table
