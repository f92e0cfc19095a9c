"""The arrays that pass between all parts of the runtime (images, labels, maps), and checks of what an image may be."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.arguments import check_argument, is_number
from nuclei_runtime.errors import ImageShapeError, ImageValueError
from nuclei_runtime.faults import allocating_for

Image = NDArray[np.generic]
"""(H, W), (H, W, 1), (H, W, 3) or (H, W, 4), rows first, with the values as stored in the file."""

COLOURS = ("red", "green", "blue")
"""The channels of a colour image, in order; alpha may follow."""

Labels = NDArray[np.int32]
"""(H, W); 0 is background, nuclei are 1..N."""

MAX_LABEL = int(np.iinfo(np.int32).max)

MAX_GIVEN_LABEL = (1 << 24) - 1
"""The largest number of a nucleus in a file that a person gives: up to it, every whole number is a 32-bit float, as
Fiji stores many labels. Counting takes memory for each number up to the largest."""

_ROUNDING = 1e-3
"""How far a map may be outside 0 to 1: whoever stored it in 16 bits, or resized it, may have rounded."""

Maps = NDArray[np.float32]
"""(H, W, M): the outputs of a network, each in [0, 1], in the order of `nuclei_runtime.steps.step.MAPS`."""


def check_form(shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Raise an error unless an image of this shape and type can be segmented, whatever its values.

    Raises
    ------
    ImageShapeError, ImageValueError
        See `nuclei_runtime.readers.opening.read_image`.
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


def check_array(image: Image) -> None:
    """Raise an error unless `image` is an array of a shape and type that can be segmented, whatever its values.

    This also refuses whatever a camera returned instead of a frame, and arrays in which some values are masked.

    Raises
    ------
    ImageShapeError, ImageValueError
        See `nuclei_runtime.readers.opening.read_image`.
    """
    if not _is_plain(image):
        raise ImageShapeError(
            f"found {type(image).__name__}, expected a NumPy array (H, W), (H, W, 3) or (H, W, 4); "
            "is it a dropped frame, a path, or a masked array (fill it first)?"
        )
    check_form(image.shape, image.dtype)


def check_image(image: Image) -> None:
    """Raise an error unless `image` is one finite image: what `check_array` checks, and the values.

    Raises
    ------
    ImageShapeError, ImageValueError
        See `nuclei_runtime.readers.opening.read_image`.
    """
    check_array(image)
    if image.dtype.kind == "f" and not _are_finite(image):
        bad = int(image.size - np.isfinite(image).sum())
        raise ImageValueError(f"{bad} of {image.size} values are NaN or infinite; replace them before segmenting")


def check_images(images: object) -> None:
    """Raise an error unless these are several images. The rows of a colour image would be images of three columns.

    Raises
    ------
    ArgumentError
    """
    is_one = isinstance(images, np.ndarray) and (images.ndim < 3 or (images.ndim == 3 and images.shape[2] in (1, 3, 4)))
    is_several = isinstance(images, Iterable) and not isinstance(images, str | bytes) and not is_one
    check_argument(is_several, "images", "several images; call `segment`, or give [image], for one", images)


def check_pixel_size(pixel_size_um: object) -> None:
    """Raise an error unless this is the height and width of a pixel in micrometres, or None.

    Raises
    ------
    ArgumentError
    """
    sizes = pixel_size_um.tolist() if isinstance(pixel_size_um, np.ndarray) else pixel_size_um
    is_pair = (
        isinstance(sizes, tuple | list) and len(sizes) == 2 and all(is_number(size) and size > 0 for size in sizes)
    )
    check_argument(
        pixel_size_um is None or is_pair,
        "pixel_size_um",
        "the height and width of a pixel in micrometres, both above 0, such as (0.325, 0.325)",
        pixel_size_um,
    )


def check_labels(labels: NDArray[Any]) -> None:
    """Raise an error unless `labels` is a label image, (H, W) integers that are not negative; gaps are allowed.

    Raises
    ------
    ImageShapeError, ImageValueError
        The array has another shape, another type or a negative number.
    """
    if not _is_plain(labels) or labels.ndim != 2 or 0 in labels.shape:
        found = f"an array of shape {labels.shape}" if _is_plain(labels) else type(labels).__name__
        raise ImageShapeError(f"found {found}, expected a label image of shape (H, W)")
    if labels.dtype.kind not in "ui" or int(labels.max()) > MAX_LABEL or int(labels.min()) < 0:
        found = f"type {labels.dtype}" if labels.dtype.kind not in "ui" else f"{labels.min()} to {labels.max()}"
        raise ImageValueError(
            f"found labels of {found}, expected whole numbers: 0 for background, 1 to {MAX_LABEL} for nuclei"
        )


def check_maps(maps: Maps, n_maps: int) -> None:
    """Raise an error unless `maps` are the maps of one image, (H, W, `n_maps`), with finite values.

    Raises
    ------
    ImageShapeError, ImageValueError
        The array has another shape or another type than float, or values that are not finite.
    """
    if not _is_plain(maps) or maps.ndim != 3 or maps.shape[2] != n_maps or 0 in maps.shape:
        found = f"an array of shape {maps.shape}" if _is_plain(maps) else type(maps).__name__
        raise ImageShapeError(f"found {found}, expected maps of shape (H, W, {n_maps}) as `predict` gives them")
    if maps.dtype.kind != "f":
        raise ImageValueError(f"found maps of type {maps.dtype}, expected floats in [0, 1] as `predict` gives them")
    if not _are_finite(maps):  # every comparison with NaN is false: there would be no nuclei and no error
        raise ImageValueError("found maps with NaN or infinite values, expected those that `predict` gives")
    low, high = float(maps.min()), float(maps.max())
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):
        raise ImageValueError(f"found maps from {low:.4g} to {high:.4g}, expected 0 to 1 as `predict` gives them")


def _is_plain(values: object) -> bool:
    """Whether this is an array that holds a value everywhere and behaves as arrays do."""
    return isinstance(values, np.ndarray) and not isinstance(values, np.ma.MaskedArray | np.matrix)


def _are_finite(values: NDArray[Any]) -> bool:
    with allocating_for(values.shape):
        return bool(np.isfinite(values).all())


def to_uint8(values: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Store values in [0, 1] in 8 bits: 0 is 0 and 255 is 1."""
    return np.asarray(np.rint(values * 255), dtype=np.uint8)


def from_uint8(stored: NDArray[np.integer[Any] | np.floating[Any]]) -> NDArray[np.float32]:
    """Return the values in [0, 1] that `to_uint8` stored; they may have been interpolated since."""
    return np.asarray(stored / 255, dtype=np.float32)
