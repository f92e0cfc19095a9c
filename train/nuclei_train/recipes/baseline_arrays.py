"""Samples -> the arrays that the recipe `baseline` is fitted on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.steps.preprocess import preprocess
from nuclei_runtime.steps.resize import resize
from nuclei_runtime.steps.step import Step
from nuclei_train.data.samples import Sample
from nuclei_train.data.truth import naming, read_with_truth


@dataclass(frozen=True)
class TruthArrays:
    """Images and their truth, resized.

    Attributes
    ----------
    ids : tuple of str
    images : (N, size, size, 3) ndarray of float32 in [0, 1]
    foreground : (N, size, size, 1) ndarray of bool
    areas_px : ndarray of int
        Area of every nucleus in all images, in pixels of the original images.
    """

    ids: tuple[str, ...]
    images: NDArray[np.float32]
    foreground: NDArray[np.bool_]
    areas_px: NDArray[np.int64]


def load_images(samples: Sequence[Sample], steps: Sequence[Step], advance: Callable[[], None]) -> NDArray[np.float32]:
    """Return the preprocessed images, (N, height, width, 3) float32; `advance` is called after each.

    Raises
    ------
    DatasetError
        An image cannot be read; the message names it.
    """
    images = []
    for sample in samples:
        with naming(sample):
            images.append(preprocess(sample.read_image(), steps))
        advance()
    return np.stack(images)


def load_truth(
    samples: Sequence[Sample], steps: Sequence[Step], size_px: int, advance: Callable[[], None]
) -> TruthArrays:
    """Read, preprocess and resize samples and their truth; `advance` is called after each.

    The foreground (the union of the masks) is resized as an image of 0 and 1, bilinearly with anti-aliasing, and
    thresholded at one half. This keeps the area as well as 128 x 128 pixels can.

    Raises
    ------
    DatasetError
        See `nuclei_train.data.truth.read_with_truth`.
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
