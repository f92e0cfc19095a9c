"""Samples, which are images with their masks, and data sets, which are groups of samples."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from nuclei_runtime.arrays import Image, Labels
from nuclei_runtime.readers.opening import read_image
from nuclei_train.data.annotations.drawing import AnnotationFile, Drawing
from nuclei_train.data.annotations.formats import AnnotationFormat
from nuclei_train.data.stores import Store
from nuclei_train.errors import DatasetError


@dataclass(frozen=True)
class Sample:
    """One image with its annotation.

    Attributes
    ----------
    image_id : str
    image_name : str
        Name of the image file within the dataset.
    mask_names : tuple of str
        Names of the files that annotate it; empty if there is no truth.
    form : AnnotationFormat
        Of these files.
    source_digest : str or None
        For a packed sample, the digest before packing; see `nuclei_train.data.packed`.
    split : str
        That the folders of the image give: ``train``, ``val``, ``test``, or empty.
    """

    image_id: str
    image_name: str
    mask_names: tuple[str, ...]
    form: AnnotationFormat
    _store: Store
    source_digest: str | None = None
    split: str = ""

    @property
    def has_truth(self) -> bool:
        """Whether the sample comes with an annotation."""
        return bool(self.mask_names)

    def read_image(self) -> Image:
        """Return the image, (H, W), (H, W, 3) or (H, W, 4).

        Raises
        ------
        ImageError
            See `nuclei_runtime.readers.opening.read_image`.
        DatasetError
            The file cannot be read or its entry in the zip is damaged; the message names it.
        """
        return read_image(self._store.read(self.image_name))

    def read_drawing(self, name: str, size: tuple[int, int] | None = None) -> Drawing:
        """Return what one of the files in `mask_names` says about this image.

        Parameters
        ----------
        name : str
        size : tuple of int, optional
            Height and width of the image; if it is not given and the format needs it, the image is read.

        Raises
        ------
        ImageError, DatasetError
            It cannot be read; the message names the file.
        """

        def image_size() -> tuple[int, int]:
            height, width = size or self.read_image().shape[:2]
            return height, width

        return self.form.read(
            AnnotationFile(PurePosixPath(name).name, self._store.read(name), self.image_name, image_size)
        )

    def read_labels(self, size: tuple[int, int] | None = None) -> Labels:
        """Return the truth as (H, W) int32, 0 background, 1..N in the order of the masks.

        A pixel in two masks belongs to the first; an empty mask gets no number.

        Parameters
        ----------
        size : tuple of int, optional
            See `read_drawing`.

        Raises
        ------
        ImageError
            See `read_drawing`.
        DatasetError
            There are no masks, or they differ in size.
        """
        if not self.has_truth:
            raise DatasetError(
                f"{self.image_id}: has no masks, expected at least one; add masks or leave the image out"
            )
        labels: Labels | None = None
        count = 0
        for name in self.mask_names:  # one at a time: a thousand masks of a large image do not fit in memory
            drawing = self.read_drawing(name, size)
            if labels is None:
                labels = np.zeros(drawing.shape, np.int32)
            if drawing.shape != labels.shape:
                raise DatasetError(
                    f"{self.image_id}: mask {PurePosixPath(name).name} is {drawing.shape}, but the first is "
                    f"{labels.shape}; nuclei-explore lists all such images"
                )
            count = drawing.paint(labels, count)
        assert labels is not None
        return labels

    def read_file(self, name: str) -> bytes:
        """Return the bytes of one of the sample's files, or raise a DatasetError that names it."""
        return self._store.read(name)

    def digest(self) -> str:
        """Return the SHA-256 of the identifier and of the bytes of the image and its masks, in hexadecimal.

        A packed sample has the digest of its original files, so that a run is the same on both.
        """
        if self.source_digest is not None:
            return self.source_digest
        sha = hashlib.sha256(self.image_id.encode())
        for name in (self.image_name, *self.mask_names):
            sha.update(hashlib.sha256(self._store.read(name)).digest())
        return sha.hexdigest()


@dataclass(frozen=True)
class Dataset:
    """Samples that belong together, such as those in ``stage1_train.zip``.

    Attributes
    ----------
    name : str
        ``stage1_train`` for a zip or folder of that name.
    path : Path
        The zip or folder.
    samples : tuple of Sample
        In the order of their identifiers.
    n_left_out : int
        Images of the original dataset that are not in a packed file; see `nuclei_train.data.packed`.
    unpaired : tuple of str
        Annotations that belong to no image.
    notes : tuple of str
        Sentences for whoever trains on these samples.
    """

    name: str
    path: Path
    samples: tuple[Sample, ...]
    n_left_out: int = 0
    unpaired: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def n_images(self) -> int:
        """Number of images in the dataset, including those left out."""
        return len(self.samples) + self.n_left_out

    @property
    def has_truth(self) -> bool:
        """Whether at least one sample comes with masks."""
        return any(sample.has_truth for sample in self.samples)


def combined_digest(digests: Iterable[str]) -> str:
    """Return one SHA-256 for a sequence of samples, from the `Sample.digest` of each."""
    return hashlib.sha256("".join(digests).encode()).hexdigest()
