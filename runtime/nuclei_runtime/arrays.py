"""The arrays that pass between all parts of the runtime (images, labels, maps), and checks of what an image may be."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.errors import ImageShapeError, ImageValueError
from nuclei_runtime.faults import allocating_for

Image = NDArray[np.generic]
"""(H, W), (H, W, 1), (H, W, 3) or (H, W, 4), rows first, with the values as stored in the file."""

COLOURS = ("red", "green", "blue")
"""The channels of a colour image, in order; alpha may follow."""

Labels = NDArray[np.int32]
"""(H, W); 0 is background, nuclei are 1..N."""

MAX_LABEL = int(np.iinfo(np.int32).max)

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
    if not isinstance(image, np.ndarray) or isinstance(image, np.ma.MaskedArray | np.matrix):
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


def check_pixel_size(pixel_size_um: object) -> None:
    """Raise an error unless this is the height and width of a pixel in micrometres, or None.

    Raises
    ------
    ValueError
    """
    sizes = np.asarray(pixel_size_um if isinstance(pixel_size_um, tuple | list | np.ndarray) else [], dtype=object)
    are_numbers = all(isinstance(size, int | float | np.number) for size in sizes.ravel())
    if pixel_size_um is not None and not (
        sizes.shape == (2,) and are_numbers and all(0 < size < np.inf for size in sizes)
    ):
        raise ValueError(
            "pixel_size_um must be the height and width of a pixel in micrometres, both above 0, such as "
            f"(0.325, 0.325), found {pixel_size_um!r}"
        )


def check_labels(labels: NDArray[Any]) -> None:
    """Raise an error unless `labels` is a label image, (H, W) integers that are not negative; gaps are allowed.

    Raises
    ------
    ImageShapeError, ImageValueError
        The array has another shape, another type or a negative number.
    """
    if not isinstance(labels, np.ndarray) or labels.ndim != 2 or 0 in labels.shape:
        found = f"an array of shape {labels.shape}" if isinstance(labels, np.ndarray) else type(labels).__name__
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
    if not isinstance(maps, np.ndarray) or maps.ndim != 3 or maps.shape[2] != n_maps or 0 in maps.shape:
        found = f"an array of shape {maps.shape}" if isinstance(maps, np.ndarray) else type(maps).__name__
        raise ImageShapeError(f"found {found}, expected maps of shape (H, W, {n_maps}) as `predict` gives them")
    if maps.dtype.kind != "f":
        raise ImageValueError(f"found maps of type {maps.dtype}, expected floats in [0, 1] as `predict` gives them")
    if not _are_finite(maps):  # every comparison with NaN is false: there would be no nuclei and no error
        raise ImageValueError("found maps with NaN or infinite values, expected those that `predict` gives")


def _are_finite(values: NDArray[Any]) -> bool:
    with allocating_for(values.shape):
        return bool(np.isfinite(values).all())


def to_uint8(values: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Store values in [0, 1] in 8 bits: 0 is 0 and 255 is 1."""
    return np.asarray(np.rint(values * 255), dtype=np.uint8)


def from_uint8(stored: NDArray[np.integer[Any] | np.floating[Any]]) -> NDArray[np.float32]:
    """Return the values in [0, 1] that `to_uint8` stored; they may have been interpolated since."""
    return np.asarray(stored / 255, dtype=np.float32)
