"""An image together with its truth, checked to be of one size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from nuclei_runtime.arrays import Image, Labels
from nuclei_runtime.errors import ImageError
from nuclei_train.data.samples import Sample
from nuclei_train.errors import DatasetError

REMEDY = "fix it or leave it out (nuclei-explore lists all such images)"


def read_with_truth(sample: Sample) -> tuple[Image, Labels]:
    """Return a sample's image and its labels, which have the same height and width.

    Raises
    ------
    DatasetError
        The image or a mask cannot be read, or they differ in size; the message names the image.
    """
    with naming(sample):
        image = sample.read_image()
        labels = sample.read_labels((image.shape[0], image.shape[1]))
    check_size(sample, image, labels)
    return image, labels


def check_size(sample: Sample, image: Image, labels: Labels) -> None:
    """Raise a DatasetError that names the image unless its labels have its height and width."""
    if labels.shape != image.shape[:2]:
        sizes = [f"{height} x {width}" for height, width in (image.shape[:2], labels.shape)]
        raise DatasetError(f"{sample.image_id}: the image is {sizes[0]} pixels and its masks are {sizes[1]}; {REMEDY}")


@contextmanager
def naming(sample: Sample) -> Iterator[None]:
    """Turn an ImageError into a DatasetError that names the image."""
    try:
        yield
    except ImageError as error:
        raise DatasetError(f"{sample.image_id}: {error}; {REMEDY}") from error
