"""Reads whole pages of a TIFF with Pillow where tifffile alone cannot (LZW, JPEG, palettes, CMYK, YCbCr, Lab)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np

from nuclei_runtime.arrays import Image
from nuclei_runtime.errors import ImageReadError
from nuclei_runtime.readers.pillow_decoding import decode_picture, form_of
from nuclei_runtime.readers.tiff.segments import has_gaps, would_imagecodecs_help

# Tags and values of the TIFF 6.0 specification, section 8 (baseline, orientation) and 18 (associated alpha).
_PHOTOMETRIC, _ORIENTATION = 262, 274
_WHITE_IS_ZERO, _BLACK_IS_ZERO = 0, 1
_ASSOCIATED_ALPHA = 1
_DEEP_TYPES = ("uint16", "int16", "uint32", "int32", "float32")
"""For grey only: Pillow would reduce deep colour to 8 bits, and does not invert deep grey in which 0 is white."""
_WEBP = 50001
"""The one codec that Pillow passes to libtiff although its wheels lack it; libtiff then writes to standard error."""
_PREDICTED = (5, 8, 32946, 34925, 50000)
"""LZW, deflate, LZMA and Zstandard: the compressions for which libtiff regards the tag Predictor."""
_BYTE_ORDER = "<" if sys.byteorder == "little" else ">"


class PillowPages:
    """Reads pages that all have the layout of `page`.

    Attributes
    ----------
    shape : tuple of int
    dtype : dtype

    Raises
    ------
    ImageReadError
        Pillow would not return the values that are stored.
    """

    def __init__(self, file: BinaryIO, page: Any, photometric: int) -> None:
        self._file = file
        codecs = ', or try with more codecs: pip install "nuclei-edge[codecs]"' if would_imagecodecs_help(page) else ""
        kind = _name(page.photometric) if _PHOTOMETRIC in page.tags else "no photometric interpretation"
        self._refusal = (
            f"the TIFF's {page.imagelength} x {page.imagewidth} pixels ({kind}, "
            f"{page.bitspersample} bits, {_name(page.compression)} compression) cannot be decoded; save it as "
            f"uncompressed grey or RGB{codecs}"
        )
        is_plain_grey = page.samplesperpixel == 1 and photometric == _BLACK_IS_ZERO
        if _would_be_misread(page, photometric, is_plain_grey):
            raise ImageReadError(self._refusal)
        with self._open(page.index) as picture:
            shape, self.dtype = form_of(picture)
        self.shape = (page.imagelength, page.imagewidth, *shape[2:])  # Pillow may give those of the rotated image
        if is_plain_grey and page.dtype is not None:  # 32-bit values are always signed in Pillow
            self.dtype = page.dtype
        self._is_inverted_mask = photometric == _WHITE_IS_ZERO and page.dtype == bool

    def read(self, frame: Any) -> Image:
        """Read a page."""
        if has_gaps(frame):
            raise ImageReadError(f"some strips or tiles were never written, and {self._refusal}")
        index = frame.index
        with self._open(index) as picture:
            orientation = picture.getexif().get(_ORIENTATION)  # from the tag or the XMP of the page, as in Pillow
            image = _turned_back(decode_picture(picture), orientation)
        if image.shape != self.shape:
            raise ImageReadError(f"the TIFF is damaged: page {index} is {image.shape}, expected {self.shape}")
        if self._is_inverted_mask:  # Pillow inverted it; elsewhere the 1 of a mask means 1, whichever is white
            image = np.logical_not(image)
        return image.astype(self.dtype, copy=False) if image.dtype != self.dtype else image

    @contextmanager
    def _open(self, index: int) -> Iterator[Any]:
        from PIL import Image as PillowImage
        from PIL import UnidentifiedImageError

        self._file.seek(0)
        try:
            with PillowImage.open(self._file, formats=("TIFF",)) as picture:
                picture.seek(index)
                yield picture
        except (UnidentifiedImageError, PillowImage.DecompressionBombError) as error:
            raise ImageReadError(self._refusal) from error


def _would_be_misread(page: Any, photometric: int, is_plain_grey: bool) -> bool:
    """Whether Pillow would silently return values other than those that are stored, or would fail loudly."""
    if page.compression == _WEBP:
        return True
    if page.predictor != 1 and page.compression not in _PREDICTED:
        return True
    if _ASSOCIATED_ALPHA in page.extrasamples:  # Pillow would divide the colours by the alpha
        return True
    if _PHOTOMETRIC not in page.tags:  # Pillow would take 0 as white, where tifffile takes it as black
        return True
    if photometric != page.tags[_PHOTOMETRIC].value:  # Pillow would apply a lookup table that is only for display
        return True
    if isinstance(page.bitspersample, int) and page.bitspersample <= 8:
        return False
    if not is_plain_grey or page.dtype is None or page.dtype.name not in _DEEP_TYPES:
        return True
    # libtiff returns the byte order of the machine; Pillow allows for that in uint16 but swaps all other types again.
    return bool(page.parent.byteorder != _BYTE_ORDER and page.dtype.name != "uint16")


def _turned_back(image: Image, orientation: int | None) -> Image:
    """Undo the rotation by Pillow. The orientation says where the stored row 0 and column 0 are displayed."""
    if orientation in (5, 6, 7, 8):  # row 0 is at the left or the right
        image = image.swapaxes(0, 1)
    flips_rows, flips_columns = orientation in (3, 4, 6, 7), orientation in (2, 3, 7, 8)
    return image[:: -1 if flips_rows else 1, :: -1 if flips_columns else 1]


def _name(value: Any) -> str:
    return str(getattr(value, "name", value))
