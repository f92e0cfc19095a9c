"""DATA -> samples: the Data Science Bowl 2018 layout, from zips or folders.

DATA is a folder with Kaggle's zips, one of the zips, or an unpacked zip, with or without a level such as
``stage1_train/``; or a file made by `nuclei-pack`. Two layouts are read, both with one image per sample:

    {image_id}/images/{image_id}.png  and  {image_id}/masks/*.png    Kaggle's: one nucleus per mask
    images/{image_id}.tif             and  masks/{image_id}.tif      label images, as StarDist's data come

A sample without masks has no truth: it belongs to Kaggle's stage 1 test set, or is an oddity that `nuclei-explore`
lists.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from nuclei_runtime.readers.formats import image_suffixes
from nuclei_train.data.archive import zips_of
from nuclei_train.data.packed import is_pack, open_pack
from nuclei_train.data.samples import Dataset, Sample
from nuclei_train.data.stores import FolderStore, Store, ZipStore
from nuclei_train.errors import DatasetError


def open_data(data: Path) -> list[Dataset]:
    """Find the datasets in DATA.

    Parameters
    ----------
    data : Path
        A folder with zips, one zip or packed file, or an unpacked folder. If a folder contains zips, only they are
        read, so that a folder unpacked next to its zip does not count twice.

    Returns
    -------
    list of Dataset
        At least one, none of them empty, sorted by name.

    Raises
    ------
    DatasetError
        DATA does not exist or has no known layout, or two images of a dataset have the same identifier.
    ArchiveError
        A zip is damaged; the message names the entry.
    """
    if not data.exists():
        raise DatasetError(
            f"{data}: does not exist; name a folder with images and masks, a folder with zips of them, or one such zip"
        )
    zips = zips_of(data)
    if not zips and not data.is_dir():
        raise DatasetError(f"{data}: expected a zip or a folder, found a {data.suffix or 'file without a suffix'}")
    datasets = [dataset for path in zips for dataset in _open_zip(path)] if zips else open_folder(data)
    if not datasets:
        raise DatasetError(
            f"{data}: found no image in a known layout; expected {{image_id}}/images/{{image_id}}.png with "
            "{image_id}/masks/*.png, or images/ and masks/ with label images; or zips that contain these "
            "(unpack zips inside a zip first)"
        )
    return datasets


def open_folder(folder: Path) -> list[Dataset]:
    """Find the datasets, if any, among the files of one folder; zips in it are not opened.

    Raises
    ------
    DatasetError
        Two images of a dataset have the same identifier.
    """
    return _find_datasets(folder, folder.resolve().name, FolderStore(folder))


def training_set(datasets: list[Dataset]) -> Dataset:
    """Return the dataset to train on: ``stage1_train``, or the only one that has masks.

    Raises
    ------
    DatasetError
        No dataset has masks, several have masks and none is ``stage1_train``, or several are.
    """
    with_truth = [dataset for dataset in datasets if dataset.has_truth]
    candidates = [dataset for dataset in with_truth if dataset.name == "stage1_train"] or with_truth
    if len(candidates) != 1:
        found = ", ".join(f"{dataset.name} ({dataset.path})" for dataset in candidates) or "none"
        raise DatasetError(
            f"expected one dataset stage1_train, or exactly one with masks, to train on, found {found}; "
            "name the zip or the folder to use"
        )
    return candidates[0]


def _open_zip(path: Path) -> list[Dataset]:
    store = ZipStore(path)
    return [open_pack(path, store)] if is_pack(store) else _find_datasets(path, path.stem, store)


def _find_datasets(path: Path, name: str, store: Store) -> list[Dataset]:
    """Sort a store's files into samples, and these into one dataset per folder that contains samples."""
    entries = [entry for entry in map(PurePosixPath, store.names()) if not _is_clutter(entry)]
    entries = [entry for entry in entries if entry.suffix.lower() in image_suffixes()]
    masks: dict[PurePosixPath, list[str]] = {}  # by the folder that contains masks/
    label_images: dict[PurePosixPath, list[str]] = {}  # by that folder and the stem
    for entry in entries:
        if entry.parent.name == "masks":
            parent = entry.parent.parent
            masks.setdefault(parent, []).append(str(entry))
            label_images.setdefault(parent / entry.stem, []).append(str(entry))
    levels: dict[PurePosixPath, list[Sample]] = {}
    for entry in entries:
        if entry.parent.name != "images":
            continue
        parent = entry.parent.parent
        if (parent.name or name) == entry.stem:  # Kaggle's layout: a folder named after the image
            sample = Sample(entry.stem, str(entry), tuple(sorted(masks.get(parent, ()))), False, store)
            levels.setdefault(parent.parent, []).append(sample)
        else:
            sample = Sample(entry.stem, str(entry), tuple(label_images.get(parent / entry.stem, ())), True, store)
            levels.setdefault(parent, []).append(sample)
    datasets = []
    for level, samples in sorted(levels.items()):
        _check_identifiers(path, samples)
        datasets.append(Dataset(level.name or name, path, tuple(sorted(samples, key=lambda s: s.image_id))))
    return datasets


def _check_identifiers(path: Path, samples: list[Sample]) -> None:
    """Raise if an identifier stands for more than one image or label image."""
    images: dict[str, list[str]] = {}
    for sample in samples:
        images.setdefault(sample.image_id, []).append(sample.image_name)
    label_images = (sample.mask_names for sample in samples if sample.masks_are_labels)
    for names in (*images.values(), *label_images):
        if len(names) > 1:
            raise DatasetError(
                f"{path}: {' and '.join(names)} have the same identifier; expected one file, remove the other"
            )


def _is_clutter(entry: PurePosixPath) -> bool:
    return "__MACOSX" in entry.parts or any(part.startswith(".") for part in entry.parts)
