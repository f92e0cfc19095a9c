"""PNG, JPEG and BMP, read whole: Pillow, and pypng for 16-bit colour PNG, which Pillow would silently cut to 8 bits."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import DTypeLike

from nuclei_runtime.arrays import Image
from nuclei_runtime.errors import ImageReadError, ImageShapeError
from nuclei_runtime.readers.axes import Stack

_FORMATS = ("PNG", "JPEG", "BMP")
_PLAIN_MODES = {"P": "RGB", "PA": "RGB", "LA": "L", "CMYK": "RGB", "YCbCr": "RGB", "LAB": "RGB"}
"""Pillow's modes that are no intensities, or have an alpha that nothing uses, and what they are read as."""

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

_MAX_EXPANSION = 2000
"""No lossless codec of an image with content gains more: deflate's limit is 1032 (zlib's technical details)."""
_MAX_UNDOUBTED_BYTES = 1 << 26


def check_claim(form: str, n_bytes: int, file_bytes: int) -> None:
    """Refuse a file that claims more pixels than its bytes can hold, before memory is taken for them.

    Raises
    ------
    ImageReadError
    """
    if n_bytes > max(_MAX_EXPANSION * file_bytes, _MAX_UNDOUBTED_BYTES):
        raise ImageReadError(f"the {form} claims {n_bytes} bytes of pixels, which its {file_bytes} bytes cannot hold")


def open_picture_file(file: BinaryIO) -> Stack:
    """Find what a PNG, JPEG or BMP holds, from its header.

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
        with _open_picture(file) as picture:
            picture.verify()  # a PNG's checksums, which decoding passes over
        with _open_picture(file) as picture:
            frames = getattr(picture, "n_frames", 1)
            if frames > 1:
                raise ImageShapeError(f"the file holds {frames} images; save the one to segment on its own")
            shape, dtype = form_of(picture)

        def read_whole() -> Image:
            with _open_picture(file) as picture:
                return decode_picture(picture)

    check_claim("image", int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize, size)
    axes = "YXS" if len(shape) == 3 else "YX"
    return Stack(axes, shape, dtype, (), None, lambda _, rows, columns: read_whole()[rows, columns], False)


@contextmanager
def _open_picture(file: BinaryIO) -> Iterator[Any]:
    """Open a file with Pillow.

    Raises
    ------
    ImageReadError
        It is of none of the formats, or larger than Pillow's bound against bombs.
    """
    from PIL import Image as PillowImage
    from PIL import UnidentifiedImageError

    file.seek(0)
    try:
        with PillowImage.open(file, formats=_FORMATS) as picture:
            yield picture
    except UnidentifiedImageError:
        raise ImageReadError("the content is not an image of a known format; expected PNG, JPEG, BMP or TIFF") from None
    except PillowImage.DecompressionBombError as error:
        raise ImageReadError(f"refused, save it as TIFF if it is what it claims to be: {error}") from error


def form_of(picture: Any) -> tuple[tuple[int, ...], Any]:
    """Return the shape and type that `decode_picture` will give, without decoding."""
    from PIL import Image as PillowImage

    pixel = np.asarray(PillowImage.new(_PLAIN_MODES.get(picture.mode, picture.mode), (1, 1)))
    return (picture.height, picture.width, *pixel.shape[2:]), pixel.dtype


def decode_picture(picture: Any) -> Image:
    """Decode, with palettes, CMYK, YCbCr and Lab as RGB and grey without its alpha."""
    picture.load()
    return np.asarray(picture.convert(_PLAIN_MODES.get(picture.mode, picture.mode)))


def _is_deep_colour_png(start: bytes) -> bool:
    """Whether this is a PNG of 16 bits a channel with colour or alpha (IHDR: PNG specification 11.2.2)."""
    return start.startswith(_PNG_SIGNATURE) and len(start) > 25 and start[24] == 16 and start[25] in (2, 4, 6)


def _deep_colour_png(file: BinaryIO) -> tuple[tuple[int, ...], Any]:
    import png

    file.seek(16)
    width, height, _, colour = struct.unpack(">IIBB", file.read(10))
    planes = {2: 3, 4: 2, 6: 4}[colour]
    shape = (height, width) if planes == 2 else (height, width, planes)

    def read_whole() -> Image:
        _check_inflated(file, 2 * height * (width * planes + 8) * 2)  # twice, for rows of interlacing and their filters
        file.seek(0)
        _, _, rows, _ = png.Reader(file=file).read()
        image = np.vstack([np.asarray(row, dtype=np.uint16) for row in rows]).reshape(height, width, planes)
        return image[..., 0] if planes == 2 else image

    return shape, read_whole


def _check_inflated(file: BinaryIO, due: int) -> None:
    """Refuse a PNG whose pixels inflate far beyond its rows; pypng would inflate all of them."""
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
