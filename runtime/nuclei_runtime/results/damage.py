"""Whether a file is damaged, as a power cut or a full disk leaves it.

Only what is certain counts: a file that ends before its own contents do, or bytes that contradict the checksum or the
codec that the file itself names. Whatever else is odd about a file, such as an image of several channels or a codec
that is not supported, somebody may have meant it so.
"""

from __future__ import annotations

import codecs
import csv
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from nuclei_runtime.writers.csv_style import read_header, separator_of

_MIN_BYTES = 8
"""No image or archive is shorter than the signature of a PNG or the header of a TIFF."""
_MAX_HEADER_BYTES = 1 << 16
_PART_BYTES = 1 << 20
_DEFLATE = (8, 32946)
"""The codec of our label images: TIFF 6.0, supplement 2, and the older number of the same codec."""


def is_damaged(path: Path) -> bool:
    """Whether nobody can have meant a file to be like this: it is blank, cut off, or cannot be decoded.

    Images and archives are told by their first bytes, tables and JSON by their suffix. Anything else is only checked
    for being blank.

    Raises
    ------
    OSError
        It cannot be read.
    """
    with path.open("rb") as file:
        if _is_blank(file):
            return True
        file.seek(0)
        start = file.read(_MIN_BYTES)
        file.seek(0)
        suffix = path.suffix.lower()
        if suffix in (".tif", ".png", ".zip") and len(start) < _MIN_BYTES:
            return True
        by_signature = (check for signatures, check in _BY_SIGNATURE.items() if start.startswith(signatures))
        is_cut = next(by_signature, _BY_SUFFIX.get(suffix))
        try:
            return is_cut is not None and is_cut(file)
        except OSError:
            raise
        except Exception:  # a decoder's trouble with what somebody wrote may be its own
            return False


def _is_blank(file: BinaryIO) -> bool:
    while part := file.read(_PART_BYTES):
        if part.strip(b"\0"):
            return False
    return True


def _is_cut_tiff(file: BinaryIO) -> bool:
    """Whether a directory, a strip or a tile reaches beyond the end, or a deflate stream is broken."""
    import tifffile

    size = file.seek(0, 2)
    file.seek(0)
    try:
        with tifffile.TiffFile(file) as tiff:
            return not len(tiff.pages) or any(_is_cut_page(file, page, size) for page in tiff.pages)
    except (tifffile.TiffFileError, struct.error):  # the directory is cut off
        return True


def _is_cut_page(file: BinaryIO, page: Any, size: int) -> bool:
    if not page.dataoffsets:  # the list of them lies beyond the end
        return True
    for start, n_bytes in zip(page.dataoffsets, page.databytecounts, strict=False):
        # Some writers store a wrong size for what is not compressed.
        if start + (n_bytes if page.compression != 1 else min(n_bytes, page.nbytes)) > size:
            return True
        if page.compression in _DEFLATE and page.fillorder == 1 and n_bytes and not _inflates(file, start, n_bytes):
            return True
    return False


def _inflates(file: BinaryIO, start: int, n_bytes: int) -> bool:
    """Whether a deflate stream is whole and fits its checksum. What it inflates to is never held as a whole."""
    file.seek(start)
    stream, rest = zlib.decompressobj(), b""
    try:
        while not stream.eof:
            if not rest:
                rest = file.read(min(n_bytes, _PART_BYTES))
                n_bytes -= len(rest)
                if not rest:
                    return False
            stream.decompress(rest, _PART_BYTES)
            rest = stream.unconsumed_tail
    except zlib.error:
        return False
    return True


def _is_cut_png(file: BinaryIO) -> bool:
    """Whether a chunk is missing or does not fit its checksum."""
    import png

    try:
        for _ in png.Reader(file=file).chunks():
            pass
    except (png.Error, EOFError, struct.error):
        return True
    return False


def _is_cut_zip(file: BinaryIO) -> bool:
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.testzip() is not None
    except (zipfile.BadZipFile, EOFError, zlib.error):
        return True


def _is_cut_table(file: BinaryIO) -> bool:
    """Whether a table ends within its last row, or in zeros. A row may lack the line end, as some programs write it."""
    file.seek(-min(2, file.seek(0, 2)), 2)
    end = file.read()
    if end == b"\0\0" or end.endswith((b"\n", b"\r")):
        return end == b"\0\0"
    file.seek(0)
    line = file.readline(_MAX_HEADER_BYTES)
    if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return False
    lines = (one.decode(errors="replace") for one in file)
    separator = separator_of(line.decode(errors="replace"))
    last: list[str] = []
    for row in csv.reader(lines, delimiter=separator):
        last = row
    return len(last) < len(read_header(line))


def _is_cut_json(file: BinaryIO) -> bool:
    """Whether a document ends too early. A mistake before its end is that of somebody who edited it."""
    content = file.read()
    try:
        json.loads(content)
    except ValueError as error:
        if content.decode(errors="replace").rstrip()[-1:] not in ("}", "]"):
            return True
        return isinstance(error, json.JSONDecodeError) and error.pos >= len(error.doc.rstrip())
    return False


_BY_SIGNATURE: dict[tuple[bytes, ...], Callable[[BinaryIO], bool]] = {
    (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"): _is_cut_tiff,
    (b"\x89PNG\r\n\x1a\n",): _is_cut_png,
    (b"PK\x03\x04", b"PK\x05\x06"): _is_cut_zip,
}
_BY_SUFFIX: dict[str, Callable[[BinaryIO], bool]] = {
    ".csv": _is_cut_table,
    ".json": _is_cut_json,
    ".geojson": _is_cut_json,
}
