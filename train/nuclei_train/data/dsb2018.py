"""DATA -> samples: the Data Science Bowl 2018 layout, from zips or folders.

DATA is a folder that holds Kaggle's zips, one of the zips, or what they unpack to, with or without a level such as
``stage1_train/``; or one file that `nuclei-pack` made. Two layouts are read, both with one image per sample:

    {image_id}/images/{image_id}.png  and  {image_id}/masks/*.png    Kaggle's: one nucleus a mask
    images/{image_id}.tif             and  masks/{image_id}.tif      label images, as StarDist's data come

A sample without masks has no truth: Kaggle's stage 1 test set, or an oddity, which `nuclei-explore` names.
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
        A folder that holds zips, one zip or packed file, or an unpacked folder. Where a folder holds zips only they are
        read, so that what was unpacked beside them is not taken twice.

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
    zips = zips_of(data)
    if not zips and not data.is_dir():
        raise DatasetError(f"{data}: expected a zip or a folder, found a {data.suffix or 'file without suffix'}")
    datasets = [dataset for path in zips for dataset in _open_zip(path)] if zips else open_folder(data)
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


def _open_zip(path: Path) -> list[Dataset]:
    store = ZipStore(path)
    return [open_pack(path, store)] if is_pack(store) else _find_datasets(path, path.stem, store)


def _find_datasets(path: Path, name: str, store: Store) -> list[Dataset]:
    """Sort a store's files into samples, and those into one dataset for each folder that holds samples."""
    entries = [entry for entry in map(PurePosixPath, store.names()) if not _is_clutter(entry)]
    entries = [entry for entry in entries if entry.suffix.lower() in image_suffixes()]
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
