"""Files -> arrays: one grey or colour image as the file stores it, or a sentence that says why not.

Formats are read with Pillow (PNG, JPEG, BMP), tifffile (TIFF) and pypng (16-bit colour PNG, which Pillow
would silently reduce to 8 bits). Nothing is rescaled here: what a value means is `preprocess`'s business.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
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
        alpha comes without its alpha, palettes and CMYK come as RGB.

    Raises
    ------
    ImageReadError
        The file is missing, empty, truncated, of another format, or compressed in a way that needs imagecodecs.
    ImageShapeError
        The file holds a stack or more than one image, or has no pixels.
    ImageValueError
        The values are not finite (NaN or infinite).
    """
    try:
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
    except OSError as error:
        raise ImageReadError(f"cannot be opened: {error.strerror or error}") from error
    if not data:
        raise ImageReadError("the file is empty (0 bytes)")
    if data.startswith(_TIFF_SIGNATURES):
        image = _read_tiff(data)
    elif _is_deep_colour_png(data):
        image = _read_deep_colour_png(data)
    else:
        image = _read_with_pillow(data)
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
    if image.dtype.kind not in "buif":
        raise ImageValueError(f"found values of type {image.dtype}, expected bool, integers or floats")
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        bad = int(image.size - np.isfinite(image).sum())
        raise ImageValueError(f"{bad} of {image.size} values are NaN or infinite; replace them before segmenting")


def _read_with_pillow(data: bytes) -> Image:
    from PIL import Image as PillowImage
    from PIL import UnidentifiedImageError

    try:
        with PillowImage.open(io.BytesIO(data)) as picture:
            frames = getattr(picture, "n_frames", 1)
            if frames > 1:
                raise ImageShapeError(f"the file holds {frames} images; save the one to segment on its own")
            picture.load()
            return np.asarray(picture.convert(_PLAIN_MODES.get(picture.mode, picture.mode)))
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageReadError("the content is not an image of a known format; expected PNG, JPEG, BMP or TIFF") from None
    except PillowImage.DecompressionBombError as error:
        raise ImageReadError(f"refused: {error}") from error
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error) as error:
        raise ImageReadError(f"cannot be decoded, the file may be truncated or damaged: {error}") from error


def _is_deep_colour_png(data: bytes) -> bool:
    """Whether this is a PNG of 16 bits a channel with colour or alpha (IHDR: PNG specification 11.2.2)."""
    return data.startswith(_PNG_SIGNATURE) and len(data) > 25 and data[24] == 16 and data[25] in (2, 4, 6)


def _read_deep_colour_png(data: bytes) -> Image:
    import png

    try:
        width, height, rows, info = png.Reader(bytes=data).read()
        planes = int(info["planes"])
        image = np.vstack([np.asarray(row, dtype=np.uint16) for row in rows]).reshape(height, width, planes)
    except (png.Error, zlib.error, ValueError, EOFError, struct.error) as error:
        raise ImageReadError(f"cannot be decoded, the file may be truncated or damaged: {error}") from error
    return image[..., 0] if planes == 2 else image


def _read_tiff(data: bytes) -> Image:
    import tifffile

    try:
        with tifffile.TiffFile(io.BytesIO(data)) as tiff:
            if not tiff.series:
                raise ImageReadError("the TIFF holds no image; it may be truncated")
            if len(tiff.series) > 1:
                raise ImageShapeError(
                    f"the file holds {len(tiff.series)} image series; save the one to segment on its own"
                )
            series = tiff.series[0]
            axes, shape = series.axes, series.shape
            page: Any = series.keyframe
            try:
                image = series.asarray()
            except (ValueError, ModuleNotFoundError) as error:
                # Without imagecodecs tifffile decodes uncompressed, deflate and packbits only. Pillow's own
                # codecs (LZW, JPEG, zstd) help, where it keeps the depth: it would cut deep colour to 8 bits.
                if isinstance(error, ValueError) and "imagecodecs" not in str(error):
                    raise
                if len(tiff.pages) == 1 and (page.bitspersample <= 8 or page.samplesperpixel == 1):
                    return _read_with_pillow(data)
                raise ImageReadError(
                    f"the TIFF's compression ({page.compression.name}, {page.bitspersample} bits) needs one more "
                    "package: pip install imagecodecs"
                ) from error
    except ImageShapeError:
        raise
    except (
        tifffile.TiffFileError,
        OSError,
        ValueError,
        IndexError,
        KeyError,
        TypeError,
        struct.error,
        zlib.error,
    ) as error:
        if isinstance(error, ImageReadError):
            raise
        raise ImageReadError(f"cannot be decoded, the TIFF may be truncated or damaged: {error}") from error
    return _as_rows_columns_samples(image, axes, shape)


def _as_rows_columns_samples(image: Image, axes: str, shape: tuple[int, ...]) -> Image:
    """Drop axes of length 1 and put the samples last; refuse what is more than one image."""
    kept = "".join(axis for axis, length in zip(axes, shape, strict=True) if length != 1 or axis in "YX")
    squeezed = image.reshape([length for axis, length in zip(axes, shape, strict=True) if length != 1 or axis in "YX"])
    if kept == "YX" or kept == "YXS":
        ordered = squeezed
    elif kept == "SYX":
        ordered = np.moveaxis(squeezed, 0, -1)
    else:
        raise ImageShapeError(
            f"the TIFF holds a stack of shape {shape} with axes {axes}, expected one grey or RGB image; "
            "save each plane or channel to segment on its own"
        )
    if kept != "YX" and ordered.shape[2] == 2:  # grey with alpha
        return ordered[..., 0]
    return ordered
