"""Files -> arrays: one grey or colour image as the file stores it, or a sentence that says why not.

Nothing is rescaled here: what a value means is `preprocess`'s business. Nothing is turned either: orientation tags
are ignored, so that labels lie on the pixels that the file stores.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.errors import ImageShapeError, ImageValueError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
"""What counts as an image in a folder, in lower case."""

Image = NDArray[np.generic]


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
    from nuclei_runtime.planes import Selection, open_planes

    with open_planes(source, Selection()) as planes:
        if len(planes) > 1:
            raise ImageShapeError(f"the file holds {len(planes)} images; save the one to segment on its own")
        (plane,) = planes
        return plane.read(slice(0, plane.shape[0]), slice(0, plane.shape[1]))


def check_form(shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Raise unless an image of this shape and type can be segmented, whatever its values.

    Raises
    ------
    ImageShapeError, ImageValueError
        See `read_image`.
    """
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (1, 3, 4)):
        raise ImageShapeError(
            f"found an array of shape {shape}, expected (H, W), (H, W, 3) or (H, W, 4); "
            "split stacks and multi-channel images into single images"
        )
    if 0 in shape:
        raise ImageShapeError(f"found an array of shape {shape}, which has no pixels")
    if dtype.kind not in "buif" or dtype.itemsize > 8:
        raise ImageValueError(f"found values of type {dtype}, expected bool, integers or floats up to 64 bits")


def check_image(image: Image) -> None:
    """Raise unless `image` is one finite image of a shape and type that can be segmented.

    What a camera gave instead of a frame, and arrays whose values do not all count, are refused here.

    Raises
    ------
    ImageShapeError, ImageValueError
        See `read_image`.
    """
    if not isinstance(image, np.ndarray) or isinstance(image, np.ma.MaskedArray | np.matrix):
        raise ImageShapeError(
            f"found {type(image).__name__}, expected a NumPy array (H, W), (H, W, 3) or (H, W, 4); "
            "is it a frame that was dropped, a path, or an array with a mask (fill it first)?"
        )
    check_form(image.shape, image.dtype)
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        bad = int(image.size - np.isfinite(image).sum())
        raise ImageValueError(f"{bad} of {image.size} values are NaN or infinite; replace them before segmenting")
