"""DATA -> samples: the Data Science Bowl 2018 layout, from zips or folders.

DATA is a folder that holds Kaggle's zips, one of the zips, or what they unpack to, with or without a level such as
``stage1_train/``. Two layouts are read, both with one image per sample:

    {image_id}/images/{image_id}.png  and  {image_id}/masks/*.png    Kaggle's: one nucleus a mask
    images/{image_id}.tif             and  masks/{image_id}.tif      label images, as StarDist's data come

A sample without masks has no truth: Kaggle's stage 1 test set, or an oddity, which `nuclei-explore` names.
"""

from __future__ import annotations

import csv
import hashlib
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.errors import ArchiveError, DatasetError
from nuclei_runtime.instances import Labels
from nuclei_runtime.reading import IMAGE_SUFFIXES, Image, read_image

SPLIT_FILE = "images.csv"
"""Beside the zips: columns image_id, modality and split, by microscope field."""


class _Store(Protocol):
    """Named files, in a zip or in a folder."""

    def names(self) -> Iterable[str]: ...

    def read(self, name: str) -> bytes: ...


class ZipStore:
    """The files of one zip, read in place."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._zip = open_zip(path)

    def names(self) -> list[str]:
        return [info.filename for info in self._zip.infolist() if not info.is_dir()]

    def read(self, name: str) -> bytes:
        try:
            return self._zip.read(name)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as error:
            raise ArchiveError(f"{self.path}: entry {name!r} is damaged: {error}; fetch the zip again") from error


class FolderStore:
    """The files below one folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> list[str]:
        return sorted(p.relative_to(self.path).as_posix() for p in self.path.rglob("*") if p.is_file())

    def read(self, name: str) -> bytes:
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise DatasetError(f"{self.path / name}: cannot be read: {error.strerror or error}") from error


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
    """

    image_id: str
    image_name: str
    mask_names: tuple[str, ...]
    masks_are_labels: bool
    _store: _Store

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
        """
        return read_image(self._store.read(self.image_name))

    def read_masks(self) -> list[NDArray[np.bool_]]:
        """Return one (H, W) mask a nucleus, in the order of the files' names, as they are: unchecked."""
        if self.masks_are_labels:
            labels = _grey(read_image(self._store.read(self.mask_names[0])))
            return [labels == label for label in np.unique(labels) if label != 0]
        return [_grey(read_image(self._store.read(name))) > 0 for name in self.mask_names]

    def read_labels(self) -> Labels:
        """Return the truth as (H, W) int32, 0 background, 1..N in the order of the masks.

        A pixel that two masks claim goes to the first; an empty mask takes no number.

        Raises
        ------
        DatasetError
            There are no masks, or they differ in size.
        """
        if not self.has_truth:
            raise DatasetError(f"{self.image_id}: has no masks, expected one or more; leave it out or add them")
        if self.masks_are_labels:
            stored = _grey(read_image(self._store.read(self.mask_names[0])))
            ids, index = np.unique(stored, return_inverse=True)
            start = 0 if ids[0] == 0 else 1
            return np.asarray(index.reshape(stored.shape) + start, dtype=np.int32)
        labels: Labels | None = None
        count = 0
        for name, mask in zip(self.mask_names, self.read_masks(), strict=True):
            if labels is None:
                labels = np.zeros(mask.shape, np.int32)
            if mask.shape != labels.shape:
                raise DatasetError(
                    f"{self.image_id}: mask {PurePosixPath(name).name} is {mask.shape}, the others are {labels.shape}; "
                    "nuclei-explore lists all such images"
                )
            free = mask & (labels == 0)
            if free.any():
                count += 1
                labels[free] = count
        assert labels is not None  # has_truth
        return labels

    def digest(self) -> str:
        """Return the SHA-256 of the identifier and of the bytes of the image and its masks, in hexadecimal."""
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
    """

    name: str
    path: Path
    samples: tuple[Sample, ...]

    @property
    def has_truth(self) -> bool:
        """Whether at least one sample comes with masks."""
        return any(sample.has_truth for sample in self.samples)


@dataclass(frozen=True)
class SplitTable:
    """``images.csv``: which split and which modality each image belongs to.

    Attributes
    ----------
    path : Path
    split, modality : dict of str to str
        By image identifier.
    """

    path: Path
    split: dict[str, str]
    modality: dict[str, str]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the file, in hexadecimal."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()


def open_data(data: Path) -> list[Dataset]:
    """Find the datasets in DATA.

    Parameters
    ----------
    data : Path
        A folder that holds zips, one zip, or an unpacked folder.

    Returns
    -------
    list of Dataset
        At least one, none of them empty, by name.

    Raises
    ------
    DatasetError
        There is nothing there, or nothing in a known layout.
    ArchiveError
        A zip is damaged; the message names the entry.
    """
    if not data.exists():
        raise DatasetError(f"{data}: there is nothing there; name a folder with Kaggle's zips, a zip, or what it unpacks to")
    if data.is_file():
        if data.suffix.lower() != ".zip":
            raise DatasetError(f"{data}: expected a zip or a folder, found a {data.suffix or 'file without suffix'}")
        datasets = _find_datasets(data, ZipStore(data))
    else:
        zips = sorted(p for p in data.iterdir() if p.suffix.lower() == ".zip" and p.is_file())
        if zips:
            datasets = [dataset for path in zips for dataset in _find_datasets(path, ZipStore(path))]
        else:
            datasets = _find_datasets(data, FolderStore(data))
    if not datasets:
        raise DatasetError(
            f"{data}: found no image in a known layout, expected {{image_id}}/images/{{image_id}}.png with "
            "{image_id}/masks/*.png, or images/ and masks/ with label images; or zips that hold these"
        )
    return datasets


def training_set(datasets: list[Dataset]) -> Dataset:
    """Return the dataset to train on: ``stage1_train``, or the only one that has masks.

    Raises
    ------
    DatasetError
        None has masks, or more than one and none is ``stage1_train``.
    """
    with_truth = [dataset for dataset in datasets if dataset.has_truth]
    for dataset in with_truth:
        if dataset.name == "stage1_train":
            return dataset
    if len(with_truth) != 1:
        names = ", ".join(d.name for d in with_truth) or "none"
        raise DatasetError(f"expected stage1_train or exactly one dataset with masks to train on, found {names}")
    return with_truth[0]


def read_split_table(data: Path) -> SplitTable | None:
    """Read ``images.csv`` beside or inside DATA; None where there is none.

    Raises
    ------
    DatasetError
        The file lacks one of the columns image_id, split and modality.
    """
    candidates = [folder / SPLIT_FILE for folder in ((data, data.parent) if data.is_dir() else (data.parent,))]
    path = next((candidate for candidate in candidates if candidate.is_file()), None)
    if path is None:
        return None
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        missing = {"image_id", "split", "modality"} - set(reader.fieldnames or ())
        if missing:
            raise DatasetError(f"{path}: expected the columns image_id, split and modality, {', '.join(sorted(missing))} missing")
        rows = list(reader)
    return SplitTable(
        path,
        split={row["image_id"]: row["split"] for row in rows},
        modality={row["image_id"]: row["modality"] for row in rows},
    )


def combined_digest(digests: Iterable[str]) -> str:
    """Return one SHA-256 for a set of samples, from `Sample.digest` of each in order."""
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def open_zip(path: Path) -> zipfile.ZipFile:
    """Open a zip.

    Raises
    ------
    ArchiveError
        It is not a zip, or it is truncated: the message names the entry at which it ends.
    """
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        cut = _entry_at_the_cut(path)
        reason = f"it ends inside the entry {cut!r}: the file is truncated" if cut else f"it is not a readable zip ({error})"
        raise ArchiveError(f"{path}: {reason}; fetch the zip again") from error


def extract_zip(path: Path, target: Path) -> list[str]:
    """Unpack a zip so that nothing is written outside `target`; return the names of its files.

    Raises
    ------
    ArchiveError
        An entry is damaged, or its name is absolute or leads out of `target`; then nothing is written.
    """
    root = target.resolve()
    with open_zip(path) as archive:
        infos = [info for info in archive.infolist() if not info.is_dir()]
        for info in infos:
            parts = PurePosixPath(info.filename.replace("\\", "/")).parts
            outside = not parts or ".." in parts or parts[0] == "/" or re.match(r"^[A-Za-z]:", info.filename)
            if outside or not (root / info.filename).resolve().is_relative_to(root):
                raise ArchiveError(f"{path}: entry {info.filename!r} leads out of the target folder; nothing was unpacked")
        for info in infos:
            try:
                archive.extract(info, root)
            except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
                raise ArchiveError(f"{path}: entry {info.filename!r} is damaged: {error}; fetch the zip again") from error
    return [info.filename for info in infos]


def _entry_at_the_cut(path: Path) -> str | None:
    """Walk a broken zip's local headers and name the entry that runs past the end of the file.

    Local file header: APPNOTE.TXT 4.3.7 of the zip format. Entries with a trailing data descriptor (flag bit 3) do
    not state their size; the walk then ends with their name.
    """
    header = struct.Struct("<4s5H3I2H")
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            position, name = 0, None
            while True:
                file.seek(position)
                raw = file.read(header.size)
                if len(raw) < header.size or raw[:4] != b"PK\x03\x04":
                    return name if position >= size or raw[:4] == b"PK\x03\x04" else None
                _, _, flags, _, _, _, _, packed, _, name_length, extra_length = header.unpack(raw)
                name = file.read(name_length).decode("utf-8", "replace")
                position += header.size + name_length + extra_length + packed
                if position > size or flags & 0x08:
                    return name
    except OSError:
        return None


def _find_datasets(path: Path, store: _Store) -> list[Dataset]:
    """Sort a store's files into samples, and those into one dataset for each folder that holds samples."""
    entries = [entry for entry in map(PurePosixPath, store.names()) if not _is_clutter(entry)]
    entries = [entry for entry in entries if entry.suffix.lower() in IMAGE_SUFFIXES and len(entry.parts) > 1]
    masks: dict[PurePosixPath, list[str]] = {}
    for entry in entries:
        if entry.parent.name == "masks":
            masks.setdefault(entry.parent.parent, []).append(str(entry))
    levels: dict[PurePosixPath, list[Sample]] = {}
    for entry in entries:
        if entry.parent.name != "images":
            continue
        home = entry.parent.parent
        if home.name == entry.stem:  # Kaggle's: a folder named for the image
            level, is_label_image, mask_names = home.parent, False, tuple(sorted(masks.get(home, ())))
        else:
            level, is_label_image = home, True
            mask_names = tuple(name for name in masks.get(home, ()) if PurePosixPath(name).stem == entry.stem)
        sample = Sample(entry.stem, str(entry), mask_names, is_label_image, store)
        levels.setdefault(level, []).append(sample)
    return [
        Dataset(level.name or path.stem, path, tuple(sorted(samples, key=lambda sample: sample.image_id)))
        for level, samples in sorted(levels.items())
    ]


def _is_clutter(entry: PurePosixPath) -> bool:
    return "__MACOSX" in entry.parts or any(part.startswith(".") for part in entry.parts)


def _grey(image: Image) -> NDArray[np.generic]:
    """A mask's one channel: the first of a colour image, whose channels are alike."""
    return image if image.ndim == 2 else image[..., 0]
