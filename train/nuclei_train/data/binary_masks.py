"""Masks that say where nuclei are but not which pixels are one: all of an image would count as one huge nucleus."""

from __future__ import annotations

from collections.abc import Sequence

from scipy import ndimage

from nuclei_runtime.errors import ImageError
from nuclei_train.data.samples import Sample
from nuclei_train.errors import DatasetError

LOOKED_AT = 20
"""Of a data set's images. A few tell how its masks were made."""


def refuse_binary_masks(samples: Sequence[Sample]) -> None:
    """Raise where in most images one mask file holds one nucleus in several pieces.

    A single such image is an annotator's slip; most of them are binary masks, or label images where one file a nucleus
    is expected. What cannot be read is passed over: whoever needs it says so.

    Raises
    ------
    DatasetError
    """
    pieces: dict[str, int] = {}
    for sample in [sample for sample in samples if len(sample.mask_names) == 1][:LOOKED_AT]:
        try:
            labels = sample.read_labels()
        except (ImageError, DatasetError):
            continue
        pieces[sample.image_id] = ndimage.label(labels)[1] if labels.max() == 1 else 1
    binary = {image_id: n for image_id, n in pieces.items() if n > 1}
    if len(binary) > len(pieces) / 2:
        image_id, n = max(binary.items(), key=lambda item: item[1])
        raise DatasetError(
            f"{image_id}: its mask holds one nucleus in {n} pieces, and so it is in {len(binary)} of the {len(pieces)} "
            "images looked at; expected for each nucleus a number of its own in images/ID and masks/ID, or a file of "
            "its own in ID/images and ID/masks. Number the nuclei, with skimage.measure.label where none touch"
        )
