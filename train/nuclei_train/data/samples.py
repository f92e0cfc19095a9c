"""Samples, which are images with their masks, and data sets, which are groups of samples."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.arrays import Image, Labels
from nuclei_runtime.errors import ImageError, ImageShapeError, ImageValueError
from nuclei_runtime.readers.opening import read_image
from nuclei_train.data.stores import Store
from nuclei_train.errors import DatasetError

_JPEG_SIGNATURE = b"\xff\xd8\xff"


@dataclass(frozen=True)
class Sample:
    """One image with its masks.

    Attributes
    ----------
    image_id : str
    image_name : str
        Name of the image file within the dataset.
    mask_names : tuple of str
        Names of the mask files; empty if there is no truth.
    masks_are_labels : bool
        One file contains all nuclei as 1..N, instead of one file per nucleus.
    source_digest : str or None
        For a packed sample, the digest before packing; see `nuclei_train.data.packed`.
    """

    image_id: str
    image_name: str
    mask_names: tuple[str, ...]
    masks_are_labels: bool
    _store: Store
    source_digest: str | None = None

    @property
    def has_truth(self) -> bool:
        """Whether the sample comes with masks."""
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

    def read_mask(self, name: str) -> NDArray[Any]:
        """Return one of the files in `mask_names` as stored, unchecked, as (H, W).

        0 is background; higher values are the nucleus or, if `masks_are_labels`, the numbers of nuclei.

        Raises
        ------
        ImageError
            It cannot be read, is in colour or is a JPEG; the message names the file.
        """
        content = self._store.read(name)
        try:
            if content.startswith(_JPEG_SIGNATURE):
                raise ImageValueError("is a JPEG, which does not preserve the values; save the original as PNG or TIFF")
            return _grey(_as_stored(content, read_image(content)))
        except ImageError as error:
            raise type(error)(f"mask {PurePosixPath(name).name}: {error}") from error

    def read_labels(self) -> Labels:
        """Return the truth as (H, W) int32, 0 background, 1..N in the order of the masks.

        A pixel in two masks belongs to the first; an empty mask gets no number.

        Raises
        ------
        ImageError
            See `read_mask`.
        DatasetError
            There are no masks, or they differ in size.
        """
        if not self.has_truth:
            raise DatasetError(
                f"{self.image_id}: has no masks, expected at least one; add masks or leave the image out"
            )
        first, *others = self.mask_names
        stored = self.read_mask(first)
        if self.masks_are_labels:
            return number_labels(stored)
        labels = np.asarray(stored > 0, dtype=np.int32)
        count = int(labels.max())
        for name in others:  # one at a time: a thousand masks of a large image do not fit in memory
            mask = self.read_mask(name) > 0
            if mask.shape != labels.shape:
                raise DatasetError(
                    f"{self.image_id}: mask {PurePosixPath(name).name} is {mask.shape}, but the first is "
                    f"{labels.shape}; nuclei-explore lists all such images"
                )
            free = mask & (labels == 0)
            if free.any():
                count += 1
                labels[free] = count
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
    """

    name: str
    path: Path
    samples: tuple[Sample, ...]
    n_left_out: int = 0

    @property
    def n_images(self) -> int:
        """Number of images in the dataset, including those left out."""
        return len(self.samples) + self.n_left_out

    @property
    def has_truth(self) -> bool:
        """Whether at least one sample comes with masks."""
        return any(sample.has_truth for sample in self.samples)


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


def combined_digest(digests: Iterable[str]) -> str:
    """Return one SHA-256 for a sequence of samples, from the `Sample.digest` of each."""
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def _as_stored(content: bytes, mask: Image) -> Image:
    """Undo that `read_image` inverts a TIFF in which 0 is white: a mask counts as it is stored, not as it looks."""
    if not content.startswith((b"II", b"MM")) or mask.dtype == bool:
        return mask
    import tifffile

    with tifffile.TiffFile(io.BytesIO(content)) as tiff:
        if tiff.pages.first.photometric != tifffile.PHOTOMETRIC.MINISWHITE or tiff.is_imagej:
            return mask
    return np.negative(mask) if mask.dtype.kind == "f" else np.invert(mask)


def _grey(mask: Image) -> NDArray[Any]:
    """Return the only channel of a mask, (H, W), without alpha."""
    if mask.ndim == 2:
        return mask
    grey = mask[..., 0]
    if mask.shape[2] > 1 and not (mask[..., 1:3] == grey[..., np.newaxis]).all():
        raise ImageShapeError("is in colour, expected a greyscale image in which 0 is background; save it as greyscale")
    return grey
