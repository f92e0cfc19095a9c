"""Whole pages of a TIFF by Pillow: what tifffile alone cannot decode (LZW, JPEG, palettes, CMYK, YCbCr, Lab)."""

from __future__ import annotations

import io
import struct
from typing import Any, BinaryIO

from nuclei_runtime.errors import ImageReadError
from nuclei_runtime.pillow_images import decode_picture, form_of, open_picture
from nuclei_runtime.reading import Image
from nuclei_runtime.tiff_segments import has_imagecodecs

_ORIENTATION = 274
_BLACK_IS_ZERO = 1
_DEEP_TYPES = ("uint16", "int16", "uint32", "int32", "float32")
"""Of grey; Pillow would cut deep colour to 8 bits, and does not invert deep grey in which 0 is white."""


class PillowPages:
    """Reads pages that are all laid out like `page`.

    Attributes
    ----------
    shape : tuple of int
    dtype : dtype

    Raises
    ------
    ImageReadError
        Pillow would not read the values that are stored.
    """

    def __init__(self, file: BinaryIO, page: Any, photometric: int) -> None:
        self._file = file
        is_plain_grey = page.samplesperpixel == 1 and photometric == _BLACK_IS_ZERO
        deep = not isinstance(page.bitspersample, int) or page.bitspersample > 8
        if deep and not (is_plain_grey and page.dtype is not None and page.dtype.name in _DEEP_TYPES):
            codecs = "" if has_imagecodecs() else ', or install what may read it: pip install "nuclei-edge[codecs]"'
            raise ImageReadError(
                f"the TIFF's pixels ({_name(page.photometric)}, {page.bitspersample} bits, {_name(page.compression)} "
                f"compression) cannot be decoded; save it as uncompressed grey or RGB{codecs}"
            )
        self._turned: bytes | None = None
        if _ORIENTATION in page.tags and page.tags[_ORIENTATION].value != 1:  # Pillow would turn the image
            at = page.tags[_ORIENTATION].valueoffset
            file.seek(0)
            data = file.read()
            self._turned = data[:at] + struct.pack(page.parent.byteorder + "H", 1) + data[at + 2 :]
        with open_picture(self._source(), ("TIFF",), page.index) as picture:
            self.shape, self.dtype = form_of(picture)
        if is_plain_grey and page.dtype is not None:  # Pillow's 32 bits are signed
            self.dtype = page.dtype

    def _source(self) -> BinaryIO:
        self._file.seek(0)
        return self._file if self._turned is None else io.BytesIO(self._turned)

    def read(self, index: int) -> Image:
        """Read a page, by its number in the file."""
        with open_picture(self._source(), ("TIFF",), index) as picture:
            image = decode_picture(picture)
        if image.shape != self.shape:
            raise ImageReadError(f"the TIFF is damaged: page {index} is {image.shape}, expected {self.shape}")
        return image.astype(self.dtype, copy=False) if image.dtype != self.dtype else image


def _name(value: Any) -> str:
    return str(getattr(value, "name", value))
