"""Walks the directory of a CZI before libCZI trusts it, which can crash or hang on a damaged one.

Structure: the file specification of CZI (ZISRAW), version 1.2.2: file header, segments, directory entries of schema DV.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, BinaryIO

from nuclei_runtime.errors import ImageReadError
from nuclei_runtime.readers.bounds import check_claim

MAX_TILES = 1 << 20
_MAX_PX = 1 << 24
"""Longest side of a tile, and the largest difference between coordinates in X and Y."""
_MAX_INDEX = 1 << 20
"""Largest index in any other dimension."""

_SEGMENT = struct.Struct("<16sqq")  # identifier, allocated and used bytes
_FILE_HEADER = struct.Struct("<iiii16s16siqq")  # version, reserved, two identifiers, part, directory, metadata
_XML_BYTES = struct.Struct("<i252x")
_COUNT = struct.Struct("<i124x")
_ENTRY = struct.Struct("<2siqiiB5xi")  # schema, pixel type, position, part, compression, pyramid type, dimensions
_DIMENSION = struct.Struct("<4siifi")  # name, start, size, start coordinate, stored size
_CONTENTS = struct.Struct("<iiq")  # bytes of metadata, attachment and data
_MIN_CONTENTS_BYTES = 256
_NAMES = frozenset("XYCZTRSIBHVM")

_PIXEL_BYTES = {0: 1, 1: 2, 2: 4, 3: 3, 4: 6}
"""Bytes of a pixel for each pixel type that is read: grey of 8, 16 and 32 (float) bits, colours of 8 and 16 bits."""


@dataclass(frozen=True)
class Directory:
    """What the directory says about the tiles.

    Attributes
    ----------
    sizes : dict of str to int
        How many indices there are in each dimension but X and Y.
    planes : frozenset of (int, int, int, int)
        Scene, time, Z and channel of each plane that has a tile, 0 where the tile states none. An experiment need not
        take each channel at each time and depth, and scenes may differ in both.
    max_tile_bytes : int
        Of the largest tile, decoded.
    """

    sizes: dict[str, int]
    planes: frozenset[tuple[int, int, int, int]]
    max_tile_bytes: int


@dataclass(frozen=True)
class _Tile:
    """What a directory entry says of a tile."""

    position: int
    pixel_type: int
    compression: int
    dimensions: tuple[tuple[str, int, int, int], ...]
    """Name, start, length, and stored length: in X and Y that of the pixels, which is smaller in a pyramid."""


def walk_directory(file: BinaryIO) -> Directory:
    """Check the directory of a CZI, and what each tile says about itself.

    Raises
    ------
    ImageReadError
        It lies outside the file, it describes tiles that cannot be, or a tile contradicts it.
    """
    size = file.seek(0, 2)
    *_, part, at, metadata_at = _read(file, _FILE_HEADER, _segment(file, 0, b"ZISRAWFILE"))
    if part != 0:
        raise ImageReadError("the CZI is one of several files of an image; save it in ZEN as a single file")
    if metadata_at:
        (n_bytes,) = _read(file, _XML_BYTES, _segment(file, metadata_at, b"ZISRAWMETADATA"))
        if not 0 <= n_bytes <= size - metadata_at:
            raise ImageReadError(f"the CZI is truncated or damaged: its metadata claim {n_bytes} bytes")
    at = _segment(file, at, b"ZISRAWDIRECTORY")
    (n_tiles,) = _read(file, _COUNT, at)
    at += _COUNT.size
    if not 0 < n_tiles <= MAX_TILES:
        raise ImageReadError(f"the CZI holds {n_tiles} tiles, expected 1 to {MAX_TILES}; it may be truncated")
    tiles = []
    for _ in range(n_tiles):
        tile, at = _tile(file, at)
        tiles.append(tile)
    sizes: dict[str, int] = {}
    planes: set[tuple[int, int, int, int]] = set()
    max_tile_bytes = 0
    for tile in tiles:
        starts = {name: start for name, start, *_ in tile.dimensions}
        planes.add((starts.get("S", 0), starts.get("T", 0), starts.get("Z", 0), starts.get("C", 0)))
        n_bytes = _PIXEL_BYTES[tile.pixel_type]
        for name, start, _, stored in tile.dimensions:
            if name in "XY":
                n_bytes *= stored
            else:
                sizes[name] = max(sizes.get(name, 1), start + 1)
        check_claim("CZI's tile", n_bytes, size)
        max_tile_bytes = max(max_tile_bytes, n_bytes)
        _check_contents(file, size, tile)
    return Directory(sizes, frozenset(planes), max_tile_bytes)


def _tile(file: BinaryIO, at: int) -> tuple[_Tile, int]:
    """Return a directory entry and where it ends."""
    schema, pixel_type, position, _, compression, _, n_dimensions = _read(file, _ENTRY, at)
    at += _ENTRY.size
    if schema != b"DV" or not 2 <= n_dimensions <= len(_NAMES):
        raise ImageReadError("the CZI is damaged: its directory cannot be read")
    if pixel_type not in _PIXEL_BYTES:
        raise ImageReadError(f"the CZI holds pixels of type {pixel_type}, which is not supported; export it as TIFF")
    dimensions = []
    for _ in range(n_dimensions):
        raw_name, start, length, _, stored = _read(file, _DIMENSION, at)
        at += _DIMENSION.size
        name = raw_name.rstrip(b"\0").decode("ascii", "replace")
        stored = stored or length
        if name in ("X", "Y"):
            sound = 0 < stored <= _MAX_PX and stored <= length < 1 << 31 and abs(start) < 1 << 30
        else:
            sound = name in _NAMES and 0 <= start < _MAX_INDEX
        if not sound:
            raise ImageReadError(f"the CZI is damaged: a tile has {length} elements from {start} in {name}")
        dimensions.append((name, start, length, stored))
    names = [name for name, *_ in dimensions]
    if len(set(names)) < len(names) or not {"X", "Y"} <= set(names):
        raise ImageReadError(f"the CZI is damaged: a tile has the dimensions {', '.join(names)}")
    return _Tile(position, pixel_type, compression, tuple(sorted(dimensions))), at


def _check_contents(file: BinaryIO, size: int, tile: _Tile) -> None:
    """Check the segment of a tile, which repeats its entry: libCZI allocates memory for what it says."""
    at = _segment(file, tile.position, b"ZISRAWSUBBLOCK")
    metadata, attachment, data = _read(file, _CONTENTS, at)
    repeated, end = _tile(file, at + _CONTENTS.size)
    # The entry is padded, and the metadata come before the data.
    end = max(end, at + _MIN_CONTENTS_BYTES)
    if min(metadata, attachment, data) < 0 or end + metadata + data + attachment > size:
        raise ImageReadError(f"the CZI is truncated or damaged: the tile at byte {tile.position} claims {data} bytes")
    if (repeated.pixel_type, repeated.compression, repeated.dimensions) != (
        tile.pixel_type,
        tile.compression,
        tile.dimensions,
    ):
        raise ImageReadError(f"the CZI is damaged: the tile at byte {tile.position} contradicts the directory")


def _segment(file: BinaryIO, at: int, name: bytes) -> int:
    """Return where the content of a segment begins."""
    found, _, used = _read(file, _SEGMENT, at)
    if found.rstrip(b"\0") != name or used < 0:
        raise ImageReadError(f"the CZI is truncated or damaged: no {name.decode()} at byte {at}")
    return at + _SEGMENT.size


def _read(file: BinaryIO, form: struct.Struct, at: int) -> tuple[Any, ...]:
    if at < 0:
        raise ImageReadError("the CZI is damaged: a place before its start")
    file.seek(at)
    data = file.read(form.size)
    if len(data) < form.size:
        raise ImageReadError(f"the CZI is truncated: {form.size} bytes are missing at byte {at}")
    return form.unpack(data)
