"""One sample -> the areas of its nuclei, and its oddities; and which oddities are too grave to train on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.arrays import Image
from nuclei_runtime.errors import ImageError
from nuclei_train.data.annotations.drawing import NO_OUTLINE, NOT_COUNTED, OUTSIDE
from nuclei_train.data.samples import Sample
from nuclei_train.errors import DatasetError

UNREADABLE = "unreadable file"
NO_MASKS = "image without masks"
OTHER_SIZE = "mask of another size"
COVERS_MOST = "nucleus that covers most of the image"
MUCH_LARGER = "nuclei much larger than the model knows"
UNPAIRED = "annotation without image"
EMPTY_MASK = "empty mask"
OVERLAP = "overlapping masks"
SEVERAL_PIECES = "mask in several pieces"
VARYING_ALPHA = "varying alpha channel"
CONSTANT_ALPHA = "constant alpha channel"

KINDS = (
    UNREADABLE,
    UNPAIRED,
    NO_MASKS,
    OTHER_SIZE,
    COVERS_MOST,
    MUCH_LARGER,
    OUTSIDE,
    NO_OUTLINE,
    EMPTY_MASK,
    OVERLAP,
    SEVERAL_PIECES,
    NOT_COUNTED,
    VARYING_ALPHA,
    CONSTANT_ALPHA,  # last: the rule in Kaggle's files, with 255
)
"""The kinds of oddities, the gravest first."""

STOPPING = (UNPAIRED, COVERS_MOST, MUCH_LARGER, OUTSIDE, NO_OUTLINE)
"""Kinds that almost always mean a misread mask or a missing nucleus: no training on them unless the user accepts."""

MOST = 0.5
"""Share of the image. The largest nucleus of the 664 training images of the Data Science Bowl 2018 covers 8%."""

KNOWN_DIAMETER_PX = 19.9
"""Median diameter of the nuclei that the bundled model was trained on, as its card says."""

MAX_AREA_RATIO = 20.0
"""A median beyond this is no ordinary difference between data sets, but a misread mask or another magnification. The
largest median of a data set that the model was tuned on is 688 px (brown nuclei of DeepLIIF), twice the known area."""


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
    areas, foreground_px = inspect_truth(sample, None if image is None else (image.shape[0], image.shape[1]), oddities)
    return Inspection(image, areas, foreground_px, tuple(oddities))


def _odd_alpha(image: Image) -> Iterator[Oddity]:
    if image.ndim == 3 and image.shape[2] == 4:
        low, high = image[..., 3].min(), image[..., 3].max()
        if low == high:
            yield Oddity(CONSTANT_ALPHA, f"{low} everywhere")
        else:
            yield Oddity(VARYING_ALPHA, f"{low} to {high}")


def much_larger(areas_px: Sequence[int]) -> str | None:
    """Say by how much the median nucleus of a data set exceeds what the model knows; None if it does not by far."""
    known_px = math.pi / 4 * KNOWN_DIAMETER_PX**2
    median_px = float(np.median(areas_px)) if len(areas_px) else 0.0
    if median_px < MAX_AREA_RATIO * known_px:
        return None
    return (
        f"median {median_px:,.0f} px, {median_px / known_px:.0f} times that of the bundled model's training "
        f"({known_px:.0f} px, a diameter of {KNOWN_DIAMETER_PX:g} px)"
    )


def inspect_truth(sample: Sample, size: tuple[int, int] | None, oddities: list[Oddity]) -> tuple[tuple[int, ...], int]:
    """Add what is odd about the annotation, and return the areas of its nuclei and of their union, in px.

    Without the `size` of the image, that of the first mask is used.
    """
    areas: list[int] = []
    n_masks: NDArray[np.uint16] | None = None  # number of masks that cover each pixel
    for name in sample.mask_names:
        try:
            drawing = sample.read_drawing(name, size)
        except (ImageError, DatasetError) as error:
            oddities.append(Oddity(UNREADABLE, str(error)))
            continue
        size = size or drawing.shape
        if drawing.shape != size:
            file = f"mask {PurePosixPath(name).name}"
            oddities.append(Oddity(OTHER_SIZE, f"{file}: {_size(drawing.shape)}, expected {_size(size)}"))
            continue
        if n_masks is None:
            n_masks = np.zeros(size, np.uint16)
        for nucleus in drawing.nuclei:
            area = int(np.count_nonzero(nucleus.mask))
            if not area:
                oddities.append(Oddity(EMPTY_MASK, nucleus.where))
                continue
            areas.append(area)
            n_masks[nucleus.window] += nucleus.mask
            if area > MOST * n_masks.size:
                oddities.append(Oddity(COVERS_MOST, f"{nucleus.where}: {area / n_masks.size:.0%} of the image"))
            pieces = _piece_areas(nucleus.mask)
            if len(pieces) > 1:
                shown = ", ".join(str(area) for area in pieces)
                oddities.append(Oddity(SEVERAL_PIECES, f"{nucleus.where}: {len(pieces)} pieces of {shown} px"))
        oddities.extend(Oddity(one.kind, one.detail) for one in drawing.left_out)
    if n_masks is None:
        return (), 0
    n_overlapping = int(np.count_nonzero(n_masks > 1))
    if n_overlapping:
        oddities.append(Oddity(OVERLAP, f"{n_overlapping} px in two or more masks"))
    return tuple(areas), int(np.count_nonzero(n_masks))


def _piece_areas(nucleus: NDArray[np.bool_]) -> list[int]:
    """Return the areas of a nucleus's 4-connected pieces in px, the largest first.

    Pieces that touch only at a corner count separately, as they do in instance segmentation.
    """
    from scipy import ndimage

    pieces, _ = ndimage.label(nucleus)  # by default with 4-connectivity
    return sorted(np.bincount(pieces.ravel())[1:].tolist(), reverse=True)


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(str(length) for length in shape)
