"""Reads regions of a page of a TIFF from only the strips or tiles they touch, with the decoders of tifffile."""

from __future__ import annotations

import struct
import zlib
from collections import OrderedDict
from typing import Any, BinaryIO

import numpy as np

from nuclei_runtime.arrays import Image
from nuclei_runtime.errors import ImageReadError
from nuclei_runtime.readers.bounds import CACHE_BYTES, MAX_SEGMENT_BYTES

_RAW_BYTES = 1 << 20
"""Amount of uncompressed pixels read at a time."""

_UNCOMPRESSED, _JPEG, _PACKBITS, _WEBP = 1, 7, 32773, 50001
_DEFLATE = (8, 32946)
_BOUNDED_BY_TIFFFILE = (_UNCOMPRESSED, *_DEFLATE, _PACKBITS)
_JPEG_2000 = (33005, 34712)  # of Aperio in RGB, and registered
_BOUNDED_BY_IMAGECODECS = (5, _JPEG, 34925, 34926, 50000, _WEBP, *_JPEG_2000)
"""LZW, JPEG, LZMA, Zstandard, WebP, JPEG 2000: decoded into a buffer of the expected size, or of a checked size."""
_WHOLE_BITS = (1, 8, 16, 32, 64)


def is_decodable(page: Any) -> bool:
    """Whether tifffile, with imagecodecs if it is installed, can decode the strips or tiles of this page."""
    allowed = _BOUNDED_BY_TIFFFILE + (_BOUNDED_BY_IMAGECODECS if has_imagecodecs() else ())
    if page.compression not in allowed or not (page.bitspersample in _WHOLE_BITS or _is_packed(page)):
        return False
    try:
        page.decode(None, 0)
    except (ValueError, ImportError, NotImplementedError) as error:
        if isinstance(error, ValueError) and "imagecodecs" not in str(error):
            raise
        return False
    return True


def would_imagecodecs_help(page: Any) -> bool:
    """Whether the extra `codecs` is not installed, and might decode this page."""
    return page.compression in _BOUNDED_BY_TIFFFILE + _BOUNDED_BY_IMAGECODECS and not has_imagecodecs()


def has_imagecodecs() -> bool:
    """Whether the extra `codecs` is installed."""
    try:
        import imagecodecs  # noqa: F401
    except ImportError:
        return False
    return True


def _is_packed(page: Any) -> bool:
    """Whether pixels have 10, 12 or 14 bits, as some cameras pack them; fewer than 8 bits are left to Pillow."""
    return isinstance(page.bitspersample, int) and page.bitspersample > 8 and has_imagecodecs()


class Segments:
    """Reads regions of pages that all have the layout of `keyframe`, and caches what it decoded last.

    Parameters
    ----------
    file : BinaryIO
        The TIFF, open for reading.
    keyframe : tifffile.TiffPage
    contiguous : bool
        Whether the file has one directory for many planes, stored uncompressed one after the other.
    """

    def __init__(self, file: BinaryIO, keyframe: Any, *, contiguous: bool) -> None:
        self._file = file
        self._size = file.seek(0, 2)
        self._page = keyframe
        self._contiguous = contiguous
        _, _, self._height, self._width, self._samples = keyframe.shaped
        self._rows = keyframe.tilelength if keyframe.is_tiled else keyframe.rowsperstrip
        self._columns = keyframe.tilewidth if keyframe.is_tiled else self._width
        self._is_raw = keyframe.is_final if contiguous else not keyframe.is_tiled and self._is_plain()
        if self._rows < 1 or self._columns < 1:
            raise ImageReadError(f"the TIFF is damaged: its strips or tiles are {self._rows} x {self._columns} pixels")
        self._cache: OrderedDict[tuple[int, int], Image] = OrderedDict()
        self._cached_bytes = 0

    @property
    def reads_blocks(self) -> bool:
        """Whether reading a region costs only about as much as the region."""
        return bool(self._is_raw or self._segment_bytes() <= MAX_SEGMENT_BYTES)

    def _is_plain(self) -> bool:
        page = self._page
        plain = page.compression == _UNCOMPRESSED and page.predictor == 1 and page.fillorder == 1
        return bool(plain and page.bitspersample in (8, 16, 32, 64) and not page.is_subsampled)

    def _segment_bytes(self) -> int:
        return int(self._rows * self._columns * self._samples * self._page.dtype.itemsize)

    def read(self, frame: Any, n: int, sample: int, rows: slice, columns: slice, channel: int | None = None) -> Image:
        """Read a region of a page.

        Parameters
        ----------
        frame : tifffile.TiffPage or TiffFrame
            The page, or the only one of a contiguous file.
        n : int
            Index of the plane.
        sample : int
            Index among the samples that are stored in separate planes.
        rows, columns : slice
        channel : int, optional
            Index among the samples that are stored interleaved; all of them if None.

        Returns
        -------
        (h, w) or (h, w, interleaved samples) ndarray
            A copy, which keeps nothing of the cache alive.

        Raises
        ------
        ImageReadError
            Pixels are missing. Strips or tiles that were never written are 0, unless none was.
        """
        wanted = slice(None) if channel is None else channel
        shape = (rows.stop - rows.start, columns.stop - columns.start)
        region = np.empty(shape if channel is not None else (*shape, self._samples), self._page.dtype)
        if self._contiguous:
            start = frame.dataoffsets[0] + (n * frame.shaped[0] + sample) * self._height * self._row_bytes()
            self._read_raw(start, rows, columns, wanted, region)
            return region
        self._check_number(frame)
        down, across = -(-self._height // self._rows), -(-self._width // self._columns)
        for i in range(rows.start // self._rows, -(-rows.stop // self._rows)):
            for j in range(columns.start // self._columns, -(-columns.stop // self._columns)):
                index = (sample * down + i) * across + j
                top, left = i * self._rows, j * self._columns
                y = slice(max(rows.start, top), min(rows.stop, top + self._rows))
                x = slice(max(columns.start, left), min(columns.stop, left + self._columns))
                inner = (slice(y.start - top, y.stop - top), slice(x.start - left, x.stop - left))
                outer = (slice(y.start - rows.start, y.stop - rows.start),)
                part = region[(*outer, slice(x.start - columns.start, x.stop - columns.start))]
                if _is_missing(frame, index):
                    part[...] = 0
                elif self._is_raw:
                    self._read_raw_part(frame, index, *inner, wanted, part)
                else:
                    part[...] = self._part(frame, index)[inner][..., wanted]
        return region

    def _check_number(self, frame: Any) -> None:
        n = self._page.shaped[0] * -(-self._height // self._rows) * -(-self._width // self._columns)
        if len(frame.dataoffsets) != n or len(frame.databytecounts) != n:
            found = min(len(frame.dataoffsets), len(frame.databytecounts))
            raise ImageReadError(f"the TIFF is damaged: it needs {n} strips or tiles but lists {found}")
        if not any(frame.dataoffsets):
            raise ImageReadError("the TIFF holds no pixels here: none of the strips or tiles were ever written")

    def _row_bytes(self) -> int:
        return int(self._width * self._samples * self._page.dtype.itemsize)

    def _read_raw_part(
        self, frame: Any, index: int, rows: slice, columns: slice, wanted: int | slice, part: Image
    ) -> None:
        start, n_bytes = frame.dataoffsets[index], frame.databytecounts[index]
        # Some writers store a wrong size for a single strip; only its offset is needed.
        if len(frame.dataoffsets) > 1 and n_bytes < rows.stop * self._row_bytes():
            raise ImageReadError(f"the TIFF is truncated: strip {index} holds only {n_bytes} bytes")
        self._read_raw(start, rows, columns, wanted, part)

    def _read_raw(self, start: int, rows: slice, columns: slice, wanted: int | slice, region: Image) -> None:
        """Read uncompressed pixels, row by row, and keep the wanted samples."""
        row, pixel = self._row_bytes(), self._samples * self._page.dtype.itemsize
        end = start + rows.stop * row
        if start < 8 or end > self._size:
            raise ImageReadError(
                f"the TIFF is truncated: its pixels end at byte {end}, but the file at byte {self._size}"
            )
        stored = self._page.dtype.newbyteorder(self._page.parent.byteorder)
        width = columns.stop - columns.start
        # Whole rows are contiguous. They are not read all at once, as only one of many samples may be wanted.
        n_rows = max(1, _RAW_BYTES // row) if width == self._width else 1
        for i in range(0, len(region), n_rows):
            band = region[i : i + n_rows]
            self._file.seek(start + (rows.start + i) * row + columns.start * pixel)
            n_bytes = len(band) * width * pixel
            data = self._file.read(n_bytes)
            if len(data) < n_bytes:
                raise ImageReadError("the TIFF became shorter while it was read")
            band[...] = np.frombuffer(data, stored).reshape(len(band), width, self._samples)[..., wanted]

    def _part(self, frame: Any, index: int) -> Image:
        key = (frame.offset, index)
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        part = self._decode(frame, index)
        self._cache[key] = part
        self._cached_bytes += part.nbytes
        while self._cached_bytes > CACHE_BYTES:
            self._cached_bytes -= self._cache.popitem(last=False)[1].nbytes
        return part

    def _decode(self, frame: Any, index: int) -> Image:
        start, n_bytes = frame.dataoffsets[index], frame.databytecounts[index]
        if start < 8 or n_bytes < 1 or start + n_bytes > self._size:
            raise ImageReadError(
                f"the TIFF is truncated: strip or tile {index} is said to be {n_bytes} bytes from byte {start}, "
                f"but the file ends at byte {self._size}"
            )
        due = self._segment_bytes()
        if n_bytes > 2 * due + (1 << 16):  # no codec expands its input that much
            raise ImageReadError(
                f"the TIFF is damaged: strip or tile {index} holds {n_bytes} bytes for {due} bytes of pixels"
            )
        self._file.seek(start)
        data = self._file.read(n_bytes)
        compression = self._page.compression
        if compression in _DEFLATE and not has_imagecodecs():
            _check_inflated(data, due)
        options = {}
        if compression == _JPEG:
            header = self._page.jpegheader or b""  # which NDPI stores apart
            _check_jpeg(header + data, self._rows, self._columns)
            options = {"jpegtables": frame.jpegtables, "jpegheader": self._page.jpegheader}
        elif compression == _WEBP:
            _check_size("WebP", *_webp_shape(data), self._rows, self._columns)
        elif compression in _JPEG_2000:
            _check_size("JPEG 2000", *_jpeg_2000_shape(data), self._rows, self._columns)
        part, _, _ = self._page.decode(data, index, **options)
        if part.dtype != self._page.dtype:
            raise ImageReadError(f"the TIFF is damaged: found {part.dtype}, expected {self._page.dtype}")
        return part[0]  # type: ignore[no-any-return]


def has_gaps(frame: Any) -> bool:
    """Whether strips or tiles of a page were never written."""
    return any(_is_missing(frame, index) for index in range(min(len(frame.dataoffsets), len(frame.databytecounts))))


def _is_missing(frame: Any, index: int) -> bool:
    """Whether a strip or tile was never written: such sparse files are made by libtiff, GDAL and tifffile."""
    return bool(frame.dataoffsets[index] == 0 and frame.databytecounts[index] == 0)


def _check_inflated(data: bytes, due: int) -> None:
    """Refuse a deflate stream that inflates beyond its pixels; tifffile alone would inflate all of it."""
    stream = zlib.decompressobj()
    n_bytes, rest = 0, data
    while rest and not stream.eof:
        n_bytes += len(stream.decompress(rest, 1 << 20))
        if n_bytes > 2 * due + (1 << 16):
            raise ImageReadError(f"the TIFF is damaged: a strip or tile of {due} bytes inflates to more")
        rest = stream.unconsumed_tail


def _check_jpeg(data: bytes, rows: int, columns: int) -> None:
    """Refuse a JPEG stream that claims more pixels than its strip or tile has."""
    from tifffile.tifffile import jpeg_shape

    _, height, width, _ = jpeg_shape(data)
    _check_size("JPEG", height, width, rows, columns)


def _check_size(codec: str, height: int, width: int, rows: int, columns: int) -> None:
    if height > rows + 16 or width > columns + 16:  # padded to blocks of up to 16 x 16
        raise ImageReadError(f"the TIFF is damaged: a {codec} of {height} x {width} in {rows} x {columns} pixels")


def _jpeg_2000_shape(data: bytes) -> tuple[int, int]:
    """Return the height and width that a JPEG 2000 claims in its marker SIZ (ISO/IEC 15444-1, A.5.1)."""
    at = data.find(b"\xff\x4f\xff\x51")
    width, height, left, top, *_, n = struct.unpack_from(">8IH", data, at + 8) if at >= 0 else (0,) * 9
    if not 0 < n <= 4:
        raise ImageReadError(f"the TIFF is damaged: a JPEG 2000 of {n} components")
    return height - top, width - left


def _webp_shape(data: bytes) -> tuple[int, int]:
    """Return the height and width that a WebP claims (RFC 9649)."""
    kind = data[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return height & 0x3FFF, width & 0x3FFF
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    if kind == b"VP8X":
        return int.from_bytes(data[27:30], "little") + 1, int.from_bytes(data[24:27], "little") + 1
    raise ImageReadError("the TIFF is truncated or damaged: a strip or tile is not a valid WebP")
