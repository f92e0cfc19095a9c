"""DATA -> its data sets.

DATA is a folder or a zip in one of the layouts of `nuclei_train.data.layouts.registry`, a folder with such zips, as
Kaggle's, or a file made by `nuclei-pack`.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from nuclei_runtime.results.layout import PROVENANCE_FILE
from nuclei_train.data.archive import data_zips
from nuclei_train.data.composed import composed
from nuclei_train.data.layouts.pairing import Pair, some
from nuclei_train.data.layouts.registry import LAYOUTS, find_all
from nuclei_train.data.packed import is_pack, open_pack
from nuclei_train.data.samples import Dataset, Sample
from nuclei_train.data.stores import FolderStore, Store, ZipStore
from nuclei_train.errors import DatasetError


def open_data(data: Path) -> list[Dataset]:
    """Find the data sets in DATA.

    Parameters
    ----------
    data : Path
        A folder, a zip, or a folder with zips. If a folder contains zips, only they are read, so that a folder unpacked
        next to its zip does not count twice; zips of ROIs do not count.

    Returns
    -------
    list of Dataset
        At least one, none of them empty, sorted by name.

    Raises
    ------
    DatasetError
        DATA does not exist or has no known layout, or two images of a data set have the same identifier.
    ArchiveError
        A zip is damaged; the message names the entry.
    """
    if not data.exists():
        raise DatasetError(
            f"{data}: does not exist; give a folder with images and masks, a folder with zips of them, or one such zip"
        )
    zips = data_zips(data)
    if not zips and not data.is_dir():
        raise DatasetError(f"{data}: expected a zip or a folder, found a {data.suffix or 'file without a suffix'}")
    datasets = [dataset for path in zips for dataset in _open_zip(path)] if zips else open_folder(data)
    if not datasets and (data / PROVENANCE_FILE).is_file():
        raise DatasetError(
            f"{data}: is a results folder, without the images; expected the folder that contains both it and the images"
        )
    if not datasets:
        raise DatasetError(
            f"{data}: found no image in a known layout; expected "
            + ", or ".join(layout.name for layout in LAYOUTS if layout.name)
            + "; or zips that contain these (unpack zips inside a zip first)"
        )
    return datasets


def open_folder(folder: Path) -> list[Dataset]:
    """Find the data sets, if any, among the files of one folder; zips in it are not opened.

    Raises
    ------
    DatasetError
        Two images of a data set have the same identifier.
    """
    return _find_datasets(folder, folder.resolve().name, FolderStore(folder))


def training_set(datasets: list[Dataset]) -> Dataset:
    """Return the data set to train on: ``stage1_train``, or the only one that has masks.

    Raises
    ------
    DatasetError
        No data set has masks, several have masks and none is ``stage1_train``, or several are.
    """
    with_truth = [dataset for dataset in datasets if dataset.has_truth]
    candidates = [dataset for dataset in with_truth if dataset.name == "stage1_train"] or with_truth
    if len(candidates) == 1:
        return candidates[0]
    unpaired = [name for dataset in datasets for name in dataset.unpaired]
    if not candidates and unpaired:
        raise DatasetError(
            f"{datasets[0].path}: none of the annotations has the name of an image: {some(unpaired)}; images: "
            f"{some([sample.image_name for dataset in datasets for sample in dataset.samples])}; give both "
            "the same name"
        )
    found = ", ".join(f"{dataset.name} ({dataset.path})" for dataset in candidates) or "none"
    raise DatasetError(
        f"expected one dataset stage1_train, or exactly one with masks, to train on, found {found}; "
        "name the zip or the folder to use"
    )


def describe_unpaired(dataset: Dataset) -> str | None:
    """Return a sentence that names the images and the annotations that belong to nothing; None if there are none.

    A data set without any annotation, such as a test set, has none.
    """
    alone = [sample.image_name for sample in dataset.samples if not sample.has_truth]
    parts = []
    if alone and (dataset.has_truth or dataset.unpaired):
        parts.append(f"images without an annotation: {len(alone)} of {len(dataset.samples)} ({some(alone)})")
    if dataset.unpaired:
        parts.append(f"annotations without an image: {len(dataset.unpaired)} ({some(dataset.unpaired)})")
    return f"{dataset.path}: {'; '.join(parts)}" if parts else None


def _open_zip(path: Path) -> list[Dataset]:
    store = ZipStore(path)
    return [open_pack(path, store)] if is_pack(store) else _find_datasets(path, path.stem, store)


def _find_datasets(path: Path, name: str, store: Store) -> list[Dataset]:
    """Sort the images of all layouts into one data set per level."""
    found = find_all(store.names(), name, store)
    levels: dict[PurePosixPath, list[Pair]] = {}
    for pair in found.pairs:
        levels.setdefault(pair.level, []).append(pair)
    first = min(levels, default=PurePosixPath())
    unpaired: dict[PurePosixPath, list[str]] = {}
    for level, annotation in found.unpaired:
        unpaired.setdefault(level if level in levels else first, []).append(annotation)
    return [
        Dataset(
            composed(level.name or name),
            path,
            _samples(path, pairs, store),
            unpaired=tuple(unpaired.get(level, ())),
            notes=tuple(found.notes) if level == first else (),
        )
        for level, pairs in sorted(levels.items())
    ]


def _samples(path: Path, pairs: list[Pair], store: Store) -> tuple[Sample, ...]:
    """Return samples in the order of their identifiers, which begin with the split where images of two share one."""
    by_id: dict[str, list[Pair]] = {}
    for pair in pairs:
        by_id.setdefault(pair.image_id, []).append(pair)
    same = [found for found in by_id.values() if len(found) > 1]
    for found in same:
        if len({pair.split for pair in found}) < len(found):
            raise DatasetError(
                f"{path}: {' and '.join(str(pair.image) for pair in found)} have the same identifier; expected one "
                "file, remove the other"
            )
    samples = [
        Sample(
            f"{pair.split}_{pair.image_id}" if same and pair.split else pair.image_id,
            str(pair.image),
            tuple(map(str, pair.annotations)),
            pair.form,
            store,
            split=pair.split,
        )
        for pair in pairs
    ]
    return tuple(sorted(samples, key=lambda sample: sample.image_id))
