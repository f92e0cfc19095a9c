"""Walks the directories of a TIFF before any library trusts them, to find loops, excessive sizes and lost tags.

Structure: TIFF 6.0 specification, section 2; BigTIFF: libtiff's design document; SubIFDs: TIFF technical note 1.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import BinaryIO

from nuclei_runtime.errors import ImageReadError

MAX_PAGES = 65_535
"""The 16-bit limit of libtiff before version 4.5. The message for a longer file asks to split it."""
MAX_TAG_BYTES = 1 << 24
"""Largest tag that is read at once: two million offsets of tiles, or OME-XML of tens of thousands of planes."""
MAX_ALL_TAG_BYTES = 1 << 26
"""Largest sum of such tags over all pages, which may all refer to the same bytes."""
_MAX_TAGS = 4096

_REDUCED_TAG, _SAMPLES, _SUB_IFDS = 254, 277, 330
_LAYOUT_TAGS = frozenset((256, 257, 258, 259, 262, 266, 277, 278, 284, 317, 322, 323, 338, 339, 32997, 32998))
"""Tags in which pages of a stack must agree: size, type, compression, photometry, samples, strips or tiles, depth."""
_LOADED_TAGS = _LAYOUT_TAGS | {270, 273, 279, 282, 283, 305, 324, 325, _SUB_IFDS, 347, 513, 514, 42113, 50838, 50839}
_TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_MAX_LAYOUT_BYTES = 64
_INTEGERS = {3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}


@dataclass(frozen=True)
class Directory:
    """One page of a TIFF.

    Attributes
    ----------
    codes : frozenset of int
        The tags that the page lists.
    layout : tuple of (int, bytes)
        The tags in which the pages of one stack must agree, with their values.
    is_reduced : bool
        Whether it is marked as a smaller copy of another page (NewSubfileType, bit 0).
    samples : int
        Per pixel, such as the three of RGB.
    levels : tuple of (int, Directory)
        Its SubIFDs, in which OME-TIFF has coarser levels: where each is in the file, and what it says.
    """

    codes: frozenset[int]
    layout: tuple[tuple[int, bytes], ...]
    is_reduced: bool = False
    samples: int = 1
    levels: tuple[tuple[int, Directory], ...] = ()


def walk_directories(file: BinaryIO) -> list[Directory]:
    """Return the pages of a TIFF in order, each with its SubIFDs; those of SubIFDs are only checked.

    Raises
    ------
    ImageReadError
        A directory lies outside the file, the directories form a loop, there are too many, or a tag is too large.
    """
    return _Walk(file).pages()


class _Walk:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = file.seek(0, 2)
        self._known: dict[Directory, Directory] = {}  # most pages of a stack are equal: each kind is kept once
        self._seen: set[int] = set()
        self._tag_bytes = 0
        file.seek(0)
        header = file.read(4)
        self._order = "<" if header[:2] == b"II" else ">"
        big = header[2:4] in (b"+\0", b"\0+")
        self._offset, self._count, self._entry = ("Q", "Q", "HHQ8s") if big else ("I", "H", "HHI4s")
        if big:
            file.seek(8)

    def pages(self) -> list[Directory]:
        pages = []
        offset = self._number(self._offset)
        while offset:
            page, sub_ifds, offset = self._directory(offset)
            levels, unchecked = [], []
            for at in sub_ifds:
                level, deeper, _ = self._directory(at)
                levels.append((at, level))
                unchecked += deeper
            while unchecked:
                unchecked += self._directory(unchecked.pop())[1]
            pages.append(replace(page, levels=tuple(levels)) if levels else page)
        if not pages:
            raise ImageReadError("the TIFF holds no image; it may be truncated")
        return pages

    def _directory(self, offset: int) -> tuple[Directory, list[int], int]:
        if offset in self._seen:
            raise ImageReadError(f"the TIFF is damaged: its directories form a loop, back to byte {offset}")
        if len(self._seen) >= MAX_PAGES:
            raise ImageReadError(f"the TIFF holds more than {MAX_PAGES} pages; split it")
        self._seen.add(offset)
        self._file.seek(offset)
        n_tags = self._number(self._count)
        if n_tags > _MAX_TAGS:
            raise ImageReadError(f"the TIFF is damaged: a directory claims {n_tags} tags")
        size = struct.calcsize(self._order + self._entry)
        table = self._bytes(n_tags * size)
        following = self._number(self._offset)
        codes, layout, sub_ifds, is_reduced, samples = [], {}, [], False, 1
        for code, kind, count, value in struct.iter_unpack(self._order + self._entry, table):
            n_bytes = count * _TYPE_SIZES.get(kind, 0)
            self._tag_bytes += n_bytes if code in _LOADED_TAGS else 0
            if code in _LOADED_TAGS and (n_bytes > MAX_TAG_BYTES or self._tag_bytes > MAX_ALL_TAG_BYTES):
                raise ImageReadError(
                    f"the TIFF is refused: its tag {code} claims {n_bytes} bytes, all tags so far {self._tag_bytes}"
                )
            codes.append(code)
            if code in _LAYOUT_TAGS:
                layout[code] = struct.pack("<HQ", kind, count) + self._value(value, min(n_bytes, _MAX_LAYOUT_BYTES))
                if code == _SAMPLES and kind in _INTEGERS:
                    samples = next(iter(self._integers(self._value(value, min(n_bytes, 8)), kind)), 1)
            elif code == _SUB_IFDS and kind in _INTEGERS:
                sub_ifds = self._integers(self._value(value, n_bytes), kind)
            elif code == _REDUCED_TAG and kind in _INTEGERS:
                is_reduced = any(bits & 1 for bits in self._integers(self._value(value, min(n_bytes, 8)), kind)[:1])
        page = Directory(frozenset(codes), tuple(sorted(layout.items())), is_reduced, samples)
        return self._known.setdefault(page, page), [at for at in sub_ifds if at], following

    def _value(self, field: bytes, n_bytes: int) -> bytes:
        """Return the value of a tag, which is in its entry or at the offset given there."""
        if n_bytes <= len(field):
            return field[:n_bytes]
        (at,) = struct.unpack(self._order + self._offset, field)
        if at + n_bytes > self._size:
            raise ImageReadError("the TIFF is truncated or damaged: the value of a tag lies beyond the end of the file")
        self._file.seek(at)
        return self._bytes(n_bytes)

    def _integers(self, value: bytes, kind: int) -> list[int]:
        code = _INTEGERS[kind]
        return list(struct.unpack(f"{self._order}{len(value) // struct.calcsize(code)}{code}", value))

    def _number(self, code: str) -> int:
        (number,) = struct.unpack(self._order + code, self._bytes(struct.calcsize(self._order + code)))
        return int(number)

    def _bytes(self, n_bytes: int) -> bytes:
        at = self._file.tell()
        data = self._file.read(n_bytes) if at + n_bytes <= self._size else b""
        if len(data) < n_bytes:
            raise ImageReadError(f"the TIFF is truncated or damaged: no directory at byte {at} of {self._size}")
        return data
