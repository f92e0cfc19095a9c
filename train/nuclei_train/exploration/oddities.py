"""One sample -> what its masks hold, and what is odd about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.arrays import Image
from nuclei_runtime.errors import ImageError
from nuclei_train.data.samples import Sample, number_labels
from nuclei_train.errors import DatasetError

UNREADABLE = "unreadable file"
NO_MASKS = "image without masks"
OTHER_SIZE = "mask of another size"
EMPTY_MASK = "empty mask"
OVERLAP = "overlapping masks"
SEVERAL_PIECES = "mask in several pieces"
VARYING_ALPHA = "varying alpha channel"
CONSTANT_ALPHA = "constant alpha channel"

KINDS = (
    UNREADABLE,
    NO_MASKS,
    OTHER_SIZE,
    EMPTY_MASK,
    OVERLAP,
    SEVERAL_PIECES,
    VARYING_ALPHA,
    CONSTANT_ALPHA,  # last: the rule in Kaggle's files, where it is 255
)
"""What can be odd about a sample, the gravest first."""


@dataclass(frozen=True)
class Oddity:
    """Something in the data that a user should know of.

    Attributes
    ----------
    kind : str
        One of `KINDS`.
    detail : str
        The file that it concerns, where it is not the image, and what was found.
    """

    kind: str
    detail: str


@dataclass(frozen=True)
class Inspection:
    """What was found in one sample.

    Attributes
    ----------
    image : (H, W), (H, W, 3) or (H, W, 4) ndarray, or None
        None where the file cannot be read.
    areas_px : tuple of int, or None
        Area of every nucleus: of each mask that can be read, has the image's size and is not empty. None where there
        are no masks.
    foreground_px : int
        Pixels that at least one nucleus covers.
    oddities : tuple of Oddity
    """

    image: Image | None
    areas_px: tuple[int, ...] | None
    foreground_px: int
    oddities: tuple[Oddity, ...]


def inspect_sample(sample: Sample, *, expect_truth: bool) -> Inspection:
    """Look at the image and at every mask of a sample. What is wrong with it is an oddity, never an error.

    Parameters
    ----------
    sample : Sample
    expect_truth : bool
        Whether a sample without masks is odd: other samples of its dataset have some.
    """
    oddities: list[Oddity] = []
    image: Image | None = None
    try:
        image = sample.read_image()
    except (ImageError, DatasetError) as error:
        oddities.append(Oddity(UNREADABLE, f"image {PurePosixPath(sample.image_name).name}: {error}"))
    else:
        oddities.extend(_odd_alpha(image))
    if not sample.has_truth:
        if expect_truth:
            oddities.append(Oddity(NO_MASKS, "there is no mask, though others of its data set have some"))
        return Inspection(image, None, 0, tuple(oddities))
    areas, foreground_px = _inspect_masks(sample, None if image is None else image.shape[:2], oddities)
    return Inspection(image, areas, foreground_px, tuple(oddities))


def _odd_alpha(image: Image) -> Iterator[Oddity]:
    if image.ndim == 3 and image.shape[2] == 4:
        low, high = image[..., 3].min(), image[..., 3].max()
        if low == high:
            yield Oddity(CONSTANT_ALPHA, f"{low} everywhere")
        else:
            yield Oddity(VARYING_ALPHA, f"{low} to {high}")


def _inspect_masks(sample: Sample, size: tuple[int, ...] | None, oddities: list[Oddity]) -> tuple[tuple[int, ...], int]:
    """Return the areas of the nuclei and of their union; without an image's size the first mask's counts."""
    areas: list[int] = []
    claims: NDArray[np.uint16] | None = None  # masks that cover each pixel
    for name in sample.mask_names:
        try:
            stored = sample.read_mask(name)
        except (ImageError, DatasetError) as error:
            oddities.append(Oddity(UNREADABLE, str(error)))
            continue
        file = f"mask {PurePosixPath(name).name}"
        size = size or stored.shape
        if stored.shape != size:
            oddities.append(Oddity(OTHER_SIZE, f"{file}: {_size(stored.shape)}, the image is {_size(size)}"))
            continue
        if claims is None:
            claims = np.zeros(size, np.uint16)
        nuclei = list(_nuclei(stored if sample.masks_are_labels else stored > 0))
        if not nuclei:
            oddities.append(Oddity(EMPTY_MASK, file))
        for number, window, nucleus in nuclei:
            areas.append(int(np.count_nonzero(nucleus)))
            claims[window] += nucleus
            pieces = _piece_areas(nucleus)
            if len(pieces) > 1:
                which = f"{file}, nucleus {number}" if sample.masks_are_labels else file
                shown = ", ".join(str(area) for area in pieces)
                oddities.append(Oddity(SEVERAL_PIECES, f"{which}: {len(pieces)} pieces of {shown} px"))
    if claims is None:
        return (), 0
    contested = int(np.count_nonzero(claims > 1))
    if contested:
        oddities.append(Oddity(OVERLAP, f"{contested} px in two masks or more"))
    return tuple(areas), int(np.count_nonzero(claims))


def _nuclei(stored: NDArray[Any]) -> Iterator[tuple[Any, tuple[slice, ...], NDArray[np.bool_]]]:
    """Yield the number that each nucleus is stored with, its window in the image, and its mask there."""
    from scipy import ndimage

    labels = number_labels(stored)
    for label, window in enumerate(ndimage.find_objects(labels), start=1):
        nucleus = labels[window] == label
        yield stored[window][nucleus][0], window, nucleus


def _piece_areas(nucleus: NDArray[np.bool_]) -> list[int]:
    """Return the areas of a nucleus's 4-connected pieces in px, the largest first.

    Pieces that only touch at a corner count apart, as they do where nuclei are found.
    """
    from scipy import ndimage

    pieces, _ = ndimage.label(nucleus)  # its default structure is the 4-neighbourhood
    return sorted(np.bincount(pieces.ravel())[1:].tolist(), reverse=True)


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(str(length) for length in shape)
