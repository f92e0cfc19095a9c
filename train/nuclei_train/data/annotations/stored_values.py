"""Reads an image of masks as it is stored, whatever it looks like.

A picture is shown through a palette, or with 0 as white. The numbers of nuclei are what is stored beneath.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.arrays import Image
from nuclei_runtime.errors import ImageReadError, ImageShapeError, ImageValueError
from nuclei_runtime.readers.opening import read_image
from nuclei_runtime.readers.tiff.stack import inverted

_JPEG = b"\xff\xd8\xff"
_TIFF = (b"II", b"MM")
_ORIENTATION = 274  # TIFF 6.0, section 8


def read_stored(content: bytes) -> NDArray[Any]:
    """Return the values of an image of masks, (H, W): of a palette its indices, and of an inverted TIFF no negative.

    Raises
    ------
    ImageError
        It cannot be read, is in colour or is a JPEG.
    """
    if content.startswith(_JPEG):
        raise ImageValueError("is a JPEG, which does not preserve the values; save the original as PNG or TIFF")
    seen = read_image(content)  # also where its values are not used: it refuses what is damaged, or a stack
    return _tiff(content, seen) if content.startswith(_TIFF) else _picture(content, seen)


def _picture(content: bytes, seen: Image) -> NDArray[Any]:
    from PIL import Image as PillowImage

    if seen.ndim == 3:
        with PillowImage.open(io.BytesIO(content)) as picture:
            if picture.mode in ("P", "PA"):
                return np.atleast_3d(np.asarray(picture))[..., 0]
    return _grey(seen)


def _tiff(content: bytes, seen: Image) -> NDArray[Any]:
    import tifffile

    with tifffile.TiffFile(io.BytesIO(content)) as tiff:
        page: Any = tiff.pages.first
        if page.photometric == tifffile.PHOTOMETRIC.PALETTE and seen.ndim == 3:
            try:
                return np.atleast_3d(page.asarray())[..., 0]
            except ValueError:  # a compression that needs imagecodecs, which may be missing
                return _picture_in_tiff(content)
        if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE and not tiff.is_imagej and seen.dtype != bool:
            # `read_image` has inverted it; fewer than 8 bits are stretched to 8.
            return _grey(inverted(seen, max(8, page.bitspersample)))
    return _grey(seen)


def _picture_in_tiff(content: bytes) -> NDArray[Any]:
    from PIL import Image as PillowImage

    with PillowImage.open(io.BytesIO(content)) as picture:
        if picture.mode != "P" or picture.getexif().get(_ORIENTATION, 1) != 1:  # Pillow would rotate it
            raise ImageReadError("the palette TIFF cannot be decoded; save it as uncompressed grey")
        return np.asarray(picture)


def _grey(mask: Image) -> NDArray[Any]:
    """Return the only channel of a mask, (H, W), without alpha."""
    if mask.ndim == 2:
        return mask
    grey = mask[..., 0]
    if mask.shape[2] > 1 and not (mask[..., 1:3] == grey[..., np.newaxis]).all():
        raise ImageShapeError(
            "is in colour, expected numbers: 0 for background and one for each nucleus; export the numbers, as a label "
            "image of 16 bits, since a conversion of the colours to grey would merge nuclei"
        )
    return grey
