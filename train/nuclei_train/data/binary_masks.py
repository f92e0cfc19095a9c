"""Binary masks, which do not separate nuclei: everything in an image would count as one huge nucleus."""

from __future__ import annotations

from collections.abc import Sequence

from scipy import ndimage

from nuclei_runtime.errors import ImageError
from nuclei_train.data.samples import Sample
from nuclei_train.errors import DatasetError

IMAGES_CHECKED = 20
"""Number of images checked; a few are enough to tell how the masks of a data set were made."""


def refuse_binary_masks(samples: Sequence[Sample]) -> None:
    """Raise if in most images a single mask file contains one nucleus in several pieces.

    One such image is a slip of an annotator. If most images are like that, the masks are binary, or label images where
    one file per nucleus is expected. Images that cannot be read are skipped here and reported where they are needed.

    Raises
    ------
    DatasetError
    """
    pieces: dict[str, int] = {}
    for sample in [sample for sample in samples if len(sample.mask_names) == 1][:IMAGES_CHECKED]:
        try:
            labels = sample.read_labels()
        except (ImageError, DatasetError):
            continue
        pieces[sample.image_id] = ndimage.label(labels)[1] if labels.max() == 1 else 1
    binary = {image_id: n for image_id, n in pieces.items() if n > 1}
    if len(binary) > len(pieces) / 2:
        image_id, n = max(binary.items(), key=lambda item: item[1])
        raise DatasetError(
            f"{image_id}: its mask contains one nucleus in {n} pieces, as do those of {len(binary)} of the "
            f"{len(pieces)} images checked; expected one number per nucleus (images/ID with masks/ID) or one file per "
            "nucleus (ID/images with ID/masks). Number the nuclei, with skimage.measure.label if none of them touch"
        )
