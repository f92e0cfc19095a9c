"""One sample -> the areas of its nuclei, and its oddities."""

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
    CONSTANT_ALPHA,  # last: the rule in Kaggle's files, with 255
)
"""The kinds of oddities, the gravest first."""


@dataclass(frozen=True)
class Oddity:
    """Something in the data that a user should know about.

    Attributes
    ----------
    kind : str
        One of `KINDS`.
    detail : str
        What was found and, unless it is the image, in which file.
    """

    kind: str
    detail: str


@dataclass(frozen=True)
class Inspection:
    """What an inspection found in one sample.

    Attributes
    ----------
    image : (H, W), (H, W, 3) or (H, W, 4) ndarray, or None
        None if the file cannot be read.
    areas_px : tuple of int, or None
        Area of every nucleus in the masks that can be read and have the image's size. None if there are no masks.
    foreground_px : int
        Number of pixels covered by at least one nucleus.
    oddities : tuple of Oddity
    """

    image: Image | None
    areas_px: tuple[int, ...] | None
    foreground_px: int
    oddities: tuple[Oddity, ...]


def inspect_sample(sample: Sample, *, expect_truth: bool) -> Inspection:
    """Inspect the image and every mask of a sample. Whatever is wrong becomes an oddity, never an error.

    Parameters
    ----------
    sample : Sample
    expect_truth : bool
        Whether a sample without masks is odd, because other samples of its dataset have some.
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
            oddities.append(Oddity(NO_MASKS, "no mask, although other images of its data set have some"))
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
    """Return the areas of the nuclei and of their union; if the image has no size, the first mask's is used."""
    areas: list[int] = []
    n_masks: NDArray[np.uint16] | None = None  # number of masks that cover each pixel
    for name in sample.mask_names:
        try:
            stored = sample.read_mask(name)
        except (ImageError, DatasetError) as error:
            oddities.append(Oddity(UNREADABLE, str(error)))
            continue
        file = f"mask {PurePosixPath(name).name}"
        size = size or stored.shape
        if stored.shape != size:
            oddities.append(Oddity(OTHER_SIZE, f"{file}: {_size(stored.shape)}, expected {_size(size)}"))
            continue
        if n_masks is None:
            n_masks = np.zeros(size, np.uint16)
        nuclei = list(_nuclei(stored if sample.masks_are_labels else stored > 0))
        if not nuclei:
            oddities.append(Oddity(EMPTY_MASK, file))
        for number, window, nucleus in nuclei:
            areas.append(int(np.count_nonzero(nucleus)))
            n_masks[window] += nucleus
            pieces = _piece_areas(nucleus)
            if len(pieces) > 1:
                which = f"{file}, nucleus {number}" if sample.masks_are_labels else file
                shown = ", ".join(str(area) for area in pieces)
                oddities.append(Oddity(SEVERAL_PIECES, f"{which}: {len(pieces)} pieces of {shown} px"))
    if n_masks is None:
        return (), 0
    n_overlapping = int(np.count_nonzero(n_masks > 1))
    if n_overlapping:
        oddities.append(Oddity(OVERLAP, f"{n_overlapping} px in two or more masks"))
    return tuple(areas), int(np.count_nonzero(n_masks))


def _nuclei(stored: NDArray[Any]) -> Iterator[tuple[Any, tuple[slice, ...], NDArray[np.bool_]]]:
    """Yield each nucleus's stored number, its window in the image, and its mask there."""
    from scipy import ndimage

    labels = number_labels(stored)
    for label, window in enumerate(ndimage.find_objects(labels), start=1):
        nucleus = labels[window] == label
        yield stored[window][nucleus][0], window, nucleus


def _piece_areas(nucleus: NDArray[np.bool_]) -> list[int]:
    """Return the areas of a nucleus's 4-connected pieces in px, the largest first.

    Pieces that touch only at a corner count separately, as they do in instance segmentation.
    """
    from scipy import ndimage

    pieces, _ = ndimage.label(nucleus)  # by default with 4-connectivity
    return sorted(np.bincount(pieces.ravel())[1:].tolist(), reverse=True)


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(str(length) for length in shape)
