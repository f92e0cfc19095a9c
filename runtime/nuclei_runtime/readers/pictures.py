"""Reads whole PNG, JPEG and BMP files, by Pillow, or by pypng where Pillow would silently reduce colour to 8 bits."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import DTypeLike

from nuclei_runtime.arrays import Image
from nuclei_runtime.errors import ImageReadError, ImageShapeError
from nuclei_runtime.readers.axes import Stack
from nuclei_runtime.readers.bounds import check_claim
from nuclei_runtime.readers.pillow_decoding import decode_picture, form_of

_FORMATS = ("PNG", "JPEG", "BMP")
_MULTI_PICTURE = "MPO"
"""JPEG of a camera or phone with further pictures behind the first: previews, or maps of depth or brightness
(Multi-Picture Format, CIPA DC-007). Every viewer shows the first, which is the one that Pillow decodes."""
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def open_picture(file: BinaryIO, _: ExitStack) -> Stack:
    """Return the contents of a PNG, JPEG or BMP, from its header.

    Raises
    ------
    ImageReadError, ImageShapeError
        See `nuclei_runtime.readers.opening.read_image`.
    """
    size = file.seek(0, 2)
    file.seek(0)
    if _is_deep_colour_png(file.read(26)):
        shape, read_whole = _deep_colour_png(file)
        dtype: DTypeLike = np.dtype(np.uint16)
    else:
        with _opened(file) as picture:
            picture.verify()  # the checksums of a PNG, which decoding ignores
        with _opened(file) as picture:
            frames = getattr(picture, "n_frames", 1)
            if frames > 1 and picture.format != _MULTI_PICTURE:
                raise ImageShapeError(f"the file holds {frames} images; save the one to segment as a file of its own")
            shape, dtype = form_of(picture)

        def read_whole() -> Image:
            with _opened(file) as picture:
                return decode_picture(picture)

    check_claim("image", int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize, size)
    axes = "YXS" if len(shape) == 3 else "YX"
    return Stack(axes, shape, dtype, (), None, lambda _, rows, columns: read_whole()[rows, columns], False)


@contextmanager
def _opened(file: BinaryIO) -> Iterator[Any]:
    """Open a file with Pillow.

    Raises
    ------
    ImageReadError
        The header is damaged, or the picture exceeds the bound of Pillow against decompression bombs.
    """
    from PIL import Image as PillowImage
    from PIL import UnidentifiedImageError

    file.seek(0)
    try:
        with PillowImage.open(file, formats=_FORMATS) as picture:
            yield picture
    except UnidentifiedImageError:
        raise ImageReadError("the PNG, JPEG or BMP is truncated or damaged: its header cannot be read") from None
    except PillowImage.DecompressionBombError as error:
        raise ImageReadError(f"too large; if the size is right, save it as TIFF: {error}") from error


def _is_deep_colour_png(start: bytes) -> bool:
    """Whether this is a PNG of 16 bits per channel with colour or alpha (IHDR: PNG specification 11.2.2)."""
    return start.startswith(_PNG_SIGNATURE) and len(start) > 25 and start[24] == 16 and start[25] in (2, 4, 6)


def _deep_colour_png(file: BinaryIO) -> tuple[tuple[int, ...], Any]:
    import png

    file.seek(16)
    width, height, _, colour = struct.unpack(">IIBB", file.read(10))
    planes = {2: 3, 4: 2, 6: 4}[colour]
    shape = (height, width) if planes == 2 else (height, width, planes)

    def read_whole() -> Image:
        _check_inflated(file, 2 * height * (width * planes + 8) * 2)  # twice, to allow for interlacing and its filters
        file.seek(0)
        _, _, rows, _ = png.Reader(file=file).read()
        image = np.vstack([np.asarray(row, dtype=np.uint16) for row in rows]).reshape(height, width, planes)
        return image[..., 0] if planes == 2 else image

    return shape, read_whole


def _check_inflated(file: BinaryIO, due: int) -> None:
    """Refuse a PNG whose pixels inflate far beyond its rows, because pypng would inflate them all."""
    import png

    file.seek(0)
    stream, n_bytes = zlib.decompressobj(), 0
    for kind, data in png.Reader(file=file).chunks():
        rest = data if kind == b"IDAT" else b""
        while rest and not stream.eof:
            n_bytes += len(stream.decompress(rest, 1 << 20))
            if n_bytes > due:
                raise ImageReadError(f"the PNG is damaged: its pixels inflate to more than {due} bytes")
            rest = stream.unconsumed_tail
