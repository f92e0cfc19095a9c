"""Images of masks: one nucleus per file, or a label image with the number of its nucleus in each pixel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.arrays import Labels
from nuclei_runtime.errors import ImageError
from nuclei_train.data.annotations.drawing import NOWHERE, AnnotationFile, Drawing, Nucleus, bounds
from nuclei_train.data.annotations.stored_values import read_stored


def read_mask(file: AnnotationFile) -> Drawing:
    """Read the mask of one nucleus: 0 and below is background.

    Raises
    ------
    ImageError
        See `nuclei_train.data.annotations.stored_values.read_stored`; the message names the file.
    """
    mask = _stored(file) > 0
    window = bounds(mask)
    return Drawing((mask.shape[0], mask.shape[1]), (Nucleus(f"mask {file.name}", window, mask[window]),))


def read_label_image(file: AnnotationFile) -> Drawing:
    """Read a label image: 0 and below is background, each nucleus has a number of its own.

    Raises
    ------
    ImageError
        See `read_mask`.
    """
    stored = _stored(file)
    return Drawing((stored.shape[0], stored.shape[1]), _numbered(file.name, stored))


def number_labels(stored: NDArray[Any]) -> Labels:
    """Renumber the nuclei of a stored label image as 1..N in ascending order; 0 and below is background.

    Parameters
    ----------
    stored : (H, W) ndarray of any integer or float type

    Returns
    -------
    (H, W) ndarray of int32
    """
    labels = np.zeros(stored.shape, np.int32)
    nuclei = stored > 0
    labels[nuclei] = np.unique(stored[nuclei], return_inverse=True)[1] + 1
    return labels


def _stored(file: AnnotationFile) -> NDArray[Any]:
    try:
        return read_stored(file.content)
    except ImageError as error:
        raise type(error)(f"mask {file.name}: {error}") from error


def _numbered(name: str, stored: NDArray[Any]) -> Iterator[Nucleus]:
    from scipy import ndimage

    labels = number_labels(stored)
    windows = ndimage.find_objects(labels)
    if not windows:
        yield Nucleus(f"mask {name}", NOWHERE, np.zeros((0, 0), np.bool_))
    for label, window in enumerate(windows, start=1):
        nucleus = labels[window] == label
        yield Nucleus(f"mask {name}, nucleus {stored[window][nucleus][0]}", window, nucleus)
