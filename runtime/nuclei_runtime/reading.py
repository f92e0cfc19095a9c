"""Files -> arrays: one grey or colour image as the file stores it, or a sentence that says why not.

Formats are read with Pillow (PNG, JPEG, BMP), tifffile (TIFF) and pypng (16-bit colour PNG, which Pillow
would silently reduce to 8 bits). Nothing is rescaled here: what a value means is `preprocess`'s business.
Nothing is turned either: orientation tags are ignored, so that labels lie on the pixels that the file stores.
"""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.errors import ImageError, ImageReadError, ImageShapeError, ImageValueError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
"""What counts as an image in a folder, in lower case."""

Image = NDArray[np.generic]

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PLAIN_MODES = {"P": "RGB", "PA": "RGB", "LA": "L", "La": "L", "CMYK": "RGB", "YCbCr": "RGB", "LAB": "RGB"}
"""Pillow's modes that are no intensities, or have an alpha that nothing uses, and what they are read as."""

_TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# Tags and values of the TIFF 6.0 specification, section 8 (baseline) and 18 (associated alpha).
_ORIENTATION, _PHOTOMETRIC = 274, 262
_TYPE_TAGS = (258, 339)  # BitsPerSample, SampleFormat
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2
_ALPHA = ((1,), (2,))
_DEEP_TYPES_OF_PILLOW = ("uint16", "int16", "uint32", "int32", "float32")

_MAX_EXPANSION = 2000
"""No lossless codec of an image with content gains more: deflate's limit is 1032 (zlib's technical details)."""
_MAX_UNDOUBTED_BYTES = 1 << 28


def read_image(source: str | os.PathLike[str] | bytes) -> Image:
    """Read one image.

    The content decides the format, not the suffix.

    Parameters
    ----------
    source : path, or the bytes of a file

    Returns
    -------
    (H, W), (H, W, 3) or (H, W, 4) ndarray
        Of bool, an unsigned or signed integer or a float type, with the values that the file stores; grey with
        alpha comes without its alpha, palettes, CMYK, YCbCr and Lab come as RGB, and a TIFF in which 0 is white
        (of more than 1 bit) comes inverted.

    Raises
    ------
    ImageReadError
        The file is missing, empty, truncated, damaged, of another format, or compressed in a way that is not read.
    ImageShapeError
        The file holds a stack or more than one image, or has no pixels.
    ImageValueError
        The values are not finite (NaN or infinite).
    """
    try:
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        raise ImageReadError(f"cannot be opened: {getattr(error, 'strerror', None) or error}") from error
    if not data:
        raise ImageReadError("the file is empty (0 bytes)")
    if data.startswith(_TIFF_SIGNATURES):
        decode = _read_tiff
    elif _is_deep_colour_png(data):
        decode = _read_deep_colour_png
    else:
        decode = _read_with_pillow
    try:
        image = decode(data)
    except ImageError:
        raise
    except Exception as error:  # decoders raise whatever damaged bytes lead them into
        reason = str(error) or type(error).__name__
        raise ImageReadError(f"cannot be decoded, the file may be truncated or damaged: {reason}") from error
    check_image(image)
    return image


def check_image(image: Image) -> None:
    """Raise unless `image` is one finite image of a shape and type that can be segmented.

    Raises
    ------
    ImageShapeError, ImageValueError
        See `read_image`.
    """
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3, 4)):
        raise ImageShapeError(
            f"found an array of shape {image.shape}, expected (H, W), (H, W, 3) or (H, W, 4); "
            "split stacks and multi-channel images into single images"
        )
    if image.size == 0:
        raise ImageShapeError(f"found an array of shape {image.shape}, which has no pixels")
    if image.dtype.kind not in "buif" or image.dtype.itemsize > 8:
        raise ImageValueError(f"found values of type {image.dtype}, expected bool, integers or floats up to 64 bits")
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        bad = int(image.size - np.isfinite(image).sum())
        raise ImageValueError(f"{bad} of {image.size} values are NaN or infinite; replace them before segmenting")


def _read_with_pillow(data: bytes) -> Image:
    from PIL import Image as PillowImage
    from PIL import UnidentifiedImageError

    formats = ("PNG", "JPEG", "BMP", "TIFF")
    try:
        with PillowImage.open(io.BytesIO(data), formats=formats) as picture:
            picture.verify()  # a PNG's checksums, which decoding passes over
        with PillowImage.open(io.BytesIO(data), formats=formats) as picture:
            frames = getattr(picture, "n_frames", 1)
            if frames > 1:
                raise ImageShapeError(f"the file holds {frames} images; save the one to segment on its own")
            picture.load()
            return np.asarray(picture.convert(_PLAIN_MODES.get(picture.mode, picture.mode)))
    except UnidentifiedImageError:
        raise ImageReadError("the content is not an image of a known format; expected PNG, JPEG, BMP or TIFF") from None
    except PillowImage.DecompressionBombError as error:
        raise ImageReadError(f"refused, save it as TIFF if it is what it claims to be: {error}") from error


def _is_deep_colour_png(data: bytes) -> bool:
    """Whether this is a PNG of 16 bits a channel with colour or alpha (IHDR: PNG specification 11.2.2)."""
    return data.startswith(_PNG_SIGNATURE) and len(data) > 25 and data[24] == 16 and data[25] in (2, 4, 6)


def _read_deep_colour_png(data: bytes) -> Image:
    import png

    width, height, rows, info = png.Reader(bytes=data).read()
    planes = int(info["planes"])
    image = np.vstack([np.asarray(row, dtype=np.uint16) for row in rows]).reshape(height, width, planes)
    return image[..., 0] if planes == 2 else image


def _read_tiff(data: bytes) -> Image:
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        if not tiff.series:
            raise ImageReadError("the TIFF holds no image; it may be truncated")
        if len(tiff.series) > 1:
            raise ImageShapeError(f"the file holds {len(tiff.series)} image series; save the one to segment on its own")
        series = tiff.series[0]
        page: Any = series.keyframe
        kept = [(axis, n) for axis, n in zip(series.axes, series.shape, strict=True) if n != 1 or axis in "YX"]
        axes, shape = "".join(axis for axis, _ in kept), [n for _, n in kept]
        if axes not in ("YX", "YXS", "SYX"):
            raise ImageShapeError(
                f"the TIFF holds a stack of shape {series.shape} with axes {series.axes}, expected one grey or RGB "
                "image; save each plane or channel to segment on its own"
            )
        _check_whole(page, data)
        photometric = page.tags[_PHOTOMETRIC].value if _PHOTOMETRIC in page.tags else _BLACK_IS_ZERO
        if photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB):
            return _read_tiff_with_pillow(data, page, photometric)
        try:
            image = series.asarray().reshape(shape)
        except (ValueError, ModuleNotFoundError, NotImplementedError) as error:
            # Without imagecodecs tifffile decodes uncompressed, deflate and a little else.
            if isinstance(error, ValueError) and "imagecodecs" not in str(error):
                raise
            return _read_tiff_with_pillow(data, page, photometric)
    if photometric == _WHITE_IS_ZERO and image.dtype != bool:  # tifffile writes masks so, and means 1 all the same
        image = -image if image.dtype.kind == "f" else np.invert(image)
    if axes == "SYX":
        image = np.moveaxis(image, 0, -1)
    if image.ndim == 3 and image.shape[2] == 2 and page.extrasamples in _ALPHA:
        return image[..., 0]
    if image.ndim == 3 and image.shape[2] == 4 and photometric != _RGB:
        raise ImageShapeError("the TIFF holds 4 channels that are not RGB and alpha; save each channel on its own")
    return image


def _check_whole(page: Any, data: bytes) -> None:
    """Refuse what tifffile would fill up or read as another type, and what claims more than its bytes can hold."""
    if page.nbytes > max(_MAX_EXPANSION * len(data), _MAX_UNDOUBTED_BYTES):
        raise ImageReadError(f"the TIFF claims {page.nbytes} bytes of pixels, which its {len(data)} bytes cannot hold")
    end = max((start + n for start, n in zip(page.dataoffsets, page.databytecounts, strict=False)), default=0)
    if end > len(data) and not page.is_contiguous:  # tifffile itself sees the end of contiguous pixels
        raise ImageReadError(f"the TIFF is truncated: its pixels end at byte {end}, the file at byte {len(data)}")
    layout = page.parent.tiff
    (n_tags,) = struct.unpack_from(layout.tagnoformat, data, page.offset)
    first = page.offset + layout.tagnosize
    for start in range(first, first + n_tags * layout.tagsize, layout.tagsize):
        (tag,) = struct.unpack_from(layout.byteorder + "H", data, start)
        if tag in _TYPE_TAGS and tag not in page.tags:  # its value lay beyond the end; tifffile takes the default
            raise ImageReadError(f"the TIFF is truncated or damaged: tag {tag} cannot be read")


def _read_tiff_with_pillow(data: bytes, page: Any, photometric: int) -> Image:
    """Decode what tifffile alone cannot: LZW, JPEG and Zstandard, palettes, CMYK, YCbCr and Lab."""
    is_plain_grey = page.samplesperpixel == 1 and photometric == _BLACK_IS_ZERO
    # Pillow would cut deep colour to 8 bits, and does not invert deep grey in which 0 is white.
    if page.bitspersample > 8 and not (is_plain_grey and page.dtype.name in _DEEP_TYPES_OF_PILLOW):
        raise ImageReadError(
            f"the TIFF's pixels ({page.photometric.name}, {page.bitspersample} bits, {page.compression.name} "
            "compression) cannot be decoded; save it as uncompressed grey or RGB"
        )
    if _ORIENTATION in page.tags:  # Pillow would turn the image
        at = page.tags[_ORIENTATION].valueoffset
        data = data[:at] + struct.pack(page.parent.byteorder + "H", 1) + data[at + 2 :]
    image = _read_with_pillow(data)
    return image.astype(page.dtype) if is_plain_grey else image  # Pillow's 32 bits are signed
