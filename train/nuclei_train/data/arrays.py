"""Samples -> the arrays that the baseline recipe is fitted on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.arrays import Image, Labels
from nuclei_runtime.errors import ImageError
from nuclei_runtime.steps.preprocess import preprocess
from nuclei_runtime.steps.resize import resize
from nuclei_runtime.steps.step import Step
from nuclei_train.data.samples import Sample
from nuclei_train.errors import DatasetError


@dataclass(frozen=True)
class TruthArrays:
    """Images with their truth, resized.

    Attributes
    ----------
    ids : tuple of str
    images : (N, size, size, 3) ndarray of float32 in [0, 1]
    foreground : (N, size, size, 1) ndarray of bool
    areas_px : ndarray of int
        Area of every nucleus in pixels of the original images, all images together.
    """

    ids: tuple[str, ...]
    images: NDArray[np.float32]
    foreground: NDArray[np.bool_]
    areas_px: NDArray[np.int64]


def read_with_truth(sample: Sample) -> tuple[Image, Labels]:
    """Return a sample's image and its labels, which are of one size.

    Raises
    ------
    DatasetError
        The image or a mask cannot be read, or they differ in size; the message names the image.
    """
    try:
        image, labels = sample.read_image(), sample.read_labels()
    except ImageError as error:
        raise _unusable(sample, error) from error
    if labels.shape != image.shape[:2]:
        raise DatasetError(
            f"{sample.image_id}: the image is {image.shape[:2]} and its masks are {labels.shape}; "
            "leave it out or mend it (nuclei-explore lists all such images)"
        )
    return image, labels


def load_images(samples: Sequence[Sample], steps: Sequence[Step], advance: Callable[[], None]) -> NDArray[np.float32]:
    """Return the preprocessed images, (N, height, width, 3) float32; `advance` is called after each.

    Raises
    ------
    DatasetError
        An image cannot be read; the message names it.
    """
    images = []
    for sample in samples:
        try:
            images.append(preprocess(sample.read_image(), steps))
        except ImageError as error:
            raise _unusable(sample, error) from error
        advance()
    return np.stack(images)


def load_truth(
    samples: Sequence[Sample], steps: Sequence[Step], size_px: int, advance: Callable[[], None]
) -> TruthArrays:
    """Read, preprocess and resize samples with their truth; `advance` is called after each.

    The foreground (the union of the masks) is resized as an image of 0 and 1, bilinear with anti-aliasing, and cut at
    one half, so that the area is kept as well as 128 x 128 pixels can.

    Raises
    ------
    DatasetError
        See `read_with_truth`.
    """
    images, foregrounds, areas = [], [], []
    for sample in samples:
        image, labels = read_with_truth(sample)
        images.append(preprocess(image, steps))
        foreground = resize((labels > 0).astype(np.float32), height=size_px, width=size_px)
        foregrounds.append(foreground[..., np.newaxis] >= 0.5)
        areas.append(np.bincount(labels.ravel())[1:])
        advance()
    return TruthArrays(
        tuple(sample.image_id for sample in samples),
        np.stack(images),
        np.stack(foregrounds),
        np.concatenate(areas),
    )


def _unusable(sample: Sample, error: ImageError) -> DatasetError:
    return DatasetError(f"{sample.image_id}: {error}; leave it out or mend it (nuclei-explore lists all such images)")
