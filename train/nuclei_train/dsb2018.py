"""DATA -> samples: the Data Science Bowl 2018 layout, from zips or folders.

DATA is a folder that holds Kaggle's zips, one of the zips, or what they unpack to, with or without a level such as
``stage1_train/``. Two layouts are read, both with one image per sample:

    {image_id}/images/{image_id}.png  and  {image_id}/masks/*.png    Kaggle's: one nucleus a mask
    images/{image_id}.tif             and  masks/{image_id}.tif      label images, as StarDist's data come

A sample without masks has no truth: Kaggle's stage 1 test set, or an oddity, which `nuclei-explore` names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.errors import DatasetError, ImageError, ImageShapeError
from nuclei_runtime.instances import Labels
from nuclei_runtime.reading import IMAGE_SUFFIXES, Image, read_image
from nuclei_train.stores import FolderStore, Store, ZipStore


@dataclass(frozen=True)
class Sample:
    """One image with its masks.

    Attributes
    ----------
    image_id : str
    image_name : str
        Of the image's file within the dataset.
    mask_names : tuple of str
        Of the files of its masks; empty where there is no truth.
    masks_are_labels : bool
        One file holds all nuclei as 1..N, instead of one file a nucleus.
    source_digest : str or None
        In a packed file the digest that the sample had before it was packed; see `nuclei_train.packs`.
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
            See `nuclei_runtime.reading.read_image`.
        DatasetError
            The file cannot be read, or its entry in the zip is damaged; the message names it.
        """
        return read_image(self._store.read(self.image_name))

    def read_mask(self, name: str) -> NDArray[Any]:
        """Return one of the files in `mask_names` as it is stored, unchecked, as (H, W).

        0 is background; what is above it is one nucleus, or the number of one where `masks_are_labels`.

        Raises
        ------
        ImageError
            It cannot be read, or it is in colour; the message names the file.
        """
        try:
            return _grey(read_image(self._store.read(name)))
        except ImageError as error:
            raise type(error)(f"mask {PurePosixPath(name).name}: {error}") from error

    def read_labels(self) -> Labels:
        """Return the truth as (H, W) int32, 0 background, 1..N in the order of the masks.

        A pixel that two masks claim goes to the first; an empty mask takes no number.

        Raises
        ------
        ImageError
            See `read_mask`.
        DatasetError
            There are no masks, or they differ in size.
        """
        if not self.has_truth:
            raise DatasetError(f"{self.image_id}: has no masks, expected one or more; leave it out or add them")
        first, *others = self.mask_names
        stored = self.read_mask(first)
        if self.masks_are_labels:
            return number_labels(stored)
        labels = np.asarray(stored > 0, dtype=np.int32)
        count = int(labels.max())
        for name in others:  # one at a time: a thousand masks of a large image would not fit
            mask = self.read_mask(name) > 0
            if mask.shape != labels.shape:
                raise DatasetError(
                    f"{self.image_id}: mask {PurePosixPath(name).name} is {mask.shape}, "
                    f"the first is {labels.shape}; nuclei-explore lists all such images"
                )
            free = mask & (labels == 0)
            if free.any():
                count += 1
                labels[free] = count
        return labels

    def digest(self) -> str:
        """Return the SHA-256 of the identifier and of the bytes of the image and its masks, in hexadecimal.

        A packed sample has that of the files that it was packed from, so that a run is the same run on either.
        """
        if self.source_digest is not None:
            return self.source_digest
        sha = hashlib.sha256(self.image_id.encode())
        for name in (self.image_name, *self.mask_names):
            sha.update(hashlib.sha256(self._store.read(name)).digest())
        return sha.hexdigest()


@dataclass(frozen=True)
class Dataset:
    """Samples that belong together, such as those of ``stage1_train.zip``.

    Attributes
    ----------
    name : str
        ``stage1_train`` for a zip or folder of that name.
    path : Path
        The zip or folder.
    samples : tuple of Sample
        In the order of their identifiers.
    n_left_out : int
        Images that a packed file has left out of the dataset it was made from; see `nuclei_train.packs`.
    """

    name: str
    path: Path
    samples: tuple[Sample, ...]
    n_left_out: int = 0

    @property
    def n_images(self) -> int:
        """How many images the dataset has, those that were left out included."""
        return len(self.samples) + self.n_left_out

    @property
    def has_truth(self) -> bool:
        """Whether at least one sample comes with masks."""
        return any(sample.has_truth for sample in self.samples)


def open_data(data: Path) -> list[Dataset]:
    """Find the datasets in DATA.

    Parameters
    ----------
    data : Path
        A folder that holds zips, one zip, or an unpacked folder. Where a folder holds zips only they are read, so
        that what was unpacked beside them is not taken twice.

    Returns
    -------
    list of Dataset
        At least one, none of them empty, by name.

    Raises
    ------
    DatasetError
        There is nothing there, or nothing in a known layout, or two images of a dataset have one identifier.
    ArchiveError
        A zip is damaged; the message names the entry.
    """
    if not data.exists():
        raise DatasetError(
            f"{data}: there is nothing there; name a folder with Kaggle's zips, one of the zips, or what it unpacks to"
        )
    if data.is_dir():
        zips = sorted(p for p in data.iterdir() if p.suffix.lower() == ".zip" and p.is_file())
    elif data.suffix.lower() == ".zip":
        zips = [data]
    else:
        raise DatasetError(f"{data}: expected a zip or a folder, found a {data.suffix or 'file without suffix'}")
    if zips:
        datasets = [dataset for path in zips for dataset in _find_datasets(path, path.stem, ZipStore(path))]
    else:
        datasets = open_folder(data)
    if not datasets:
        raise DatasetError(
            f"{data}: found no image in a known layout, expected {{image_id}}/images/{{image_id}}.png with "
            "{image_id}/masks/*.png, or images/ and masks/ with label images; or zips that hold these "
            "(zips inside a zip have to be unpacked first)"
        )
    return datasets


def open_folder(folder: Path) -> list[Dataset]:
    """Find the datasets among the files of one folder, which may be none; zips in it are not opened.

    Raises
    ------
    DatasetError
        Two images of a dataset have one identifier.
    """
    return _find_datasets(folder, folder.resolve().name, FolderStore(folder))


def training_set(datasets: list[Dataset]) -> Dataset:
    """Return the dataset to train on: ``stage1_train``, or the only one that has masks.

    Raises
    ------
    DatasetError
        None has masks, or more than one and none is ``stage1_train``, or more than one is.
    """
    with_truth = [dataset for dataset in datasets if dataset.has_truth]
    candidates = [dataset for dataset in with_truth if dataset.name == "stage1_train"] or with_truth
    if len(candidates) != 1:
        found = ", ".join(f"{dataset.name} ({dataset.path})" for dataset in candidates) or "none"
        raise DatasetError(
            f"expected one dataset stage1_train, or exactly one with masks, to train on, found {found}; "
            "name the zip or the folder of the one that is meant"
        )
    return candidates[0]


def number_labels(stored: NDArray[Any]) -> Labels:
    """Number the nuclei of a stored label image 1..N in the order of their own numbers; 0 and below is background.

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
    """Return one SHA-256 for a set of samples, from `Sample.digest` of each in order."""
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def _find_datasets(path: Path, name: str, store: Store) -> list[Dataset]:
    """Sort a store's files into samples, and those into one dataset for each folder that holds samples."""
    entries = [entry for entry in map(PurePosixPath, store.names()) if not _is_clutter(entry)]
    entries = [entry for entry in entries if entry.suffix.lower() in IMAGE_SUFFIXES]
    masks: dict[PurePosixPath, list[str]] = {}  # by the folder that holds masks/
    label_images: dict[PurePosixPath, list[str]] = {}  # by the same and the stem
    for entry in entries:
        if entry.parent.name == "masks":
            home = entry.parent.parent
            masks.setdefault(home, []).append(str(entry))
            label_images.setdefault(home / entry.stem, []).append(str(entry))
    levels: dict[PurePosixPath, list[Sample]] = {}
    for entry in entries:
        if entry.parent.name != "images":
            continue
        home = entry.parent.parent
        if (home.name or name) == entry.stem:  # Kaggle's: a folder named for the image
            sample = Sample(entry.stem, str(entry), tuple(sorted(masks.get(home, ()))), False, store)
            levels.setdefault(home.parent, []).append(sample)
        else:
            sample = Sample(entry.stem, str(entry), tuple(label_images.get(home / entry.stem, ())), True, store)
            levels.setdefault(home, []).append(sample)
    datasets = []
    for level, samples in sorted(levels.items()):
        _check_identifiers(path, samples)
        datasets.append(Dataset(level.name or name, path, tuple(sorted(samples, key=lambda s: s.image_id))))
    return datasets


def _check_identifiers(path: Path, samples: list[Sample]) -> None:
    """Raise where it is not clear which image, or which label image, an identifier means."""
    images: dict[str, list[str]] = {}
    for sample in samples:
        images.setdefault(sample.image_id, []).append(sample.image_name)
    label_images = (sample.mask_names for sample in samples if sample.masks_are_labels)
    for names in (*images.values(), *label_images):
        if len(names) > 1:
            raise DatasetError(
                f"{path}: {' and '.join(names)} stand for one image; expected one file, remove the other"
            )


def _is_clutter(entry: PurePosixPath) -> bool:
    return "__MACOSX" in entry.parts or any(part.startswith(".") for part in entry.parts)


def _grey(mask: Image) -> NDArray[Any]:
    """Return a mask's one channel, (H, W), without alpha."""
    if mask.ndim == 2:
        return mask
    grey = mask[..., 0]
    if mask.shape[2] > 1 and not (mask[..., 1:3] == grey[..., np.newaxis]).all():
        raise ImageShapeError("is in colour, expected a grey image: 0 is background; save it as grey")
    return grey
