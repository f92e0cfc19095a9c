"""DATA -> its data sets together with their split: the one way in which the commands open data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from nuclei_runtime.wording import counted
from nuclei_train.data.finding import describe_unpaired, open_data, training_set
from nuclei_train.data.layouts.pairing import some
from nuclei_train.data.samples import Dataset
from nuclei_train.data.split import SIDES
from nuclei_train.data.split_table import FORMER_SPLIT_FILE, SPLIT_FILE, SplitTable, read_split_table, split_of_folders


def open_with_splits(data: Path, say: Callable[[str], None]) -> tuple[list[Dataset], SplitTable | None]:
    """Open DATA and read its split table, or take the split from its folders ``train``, ``val`` and ``test``.

    Parameters
    ----------
    data : Path
        See `nuclei_train.data.finding.open_data`.
    say : callable
        Takes a sentence for the user: which images and annotations belong to nothing, where the split comes from if
        that is not ``splits.csv``, and which images are in the table or in the data alone.

    Raises
    ------
    DatasetError
        See `nuclei_train.data.finding.open_data` and `nuclei_train.data.split_table.read_split_table`.
    """
    datasets = open_data(data)
    for dataset in datasets:
        for sentence in (*dataset.notes, describe_unpaired(dataset)):
            if sentence is not None:
                say(sentence)
    table = read_split_table(data)
    folders = split_of_folders(data, datasets)
    if table is None and folders is not None:
        counts = Counter(folders.split.values())
        shown = ", ".join(f"{n} {split}" for split, n in sorted(counts.items(), key=lambda one: -one[1]))
        n_others = sum(one.has_truth and one.image_id not in folders.split for each in datasets for one in each.samples)
        others = f"; {counted(n_others, 'annotated image')} in none of them" if n_others else ""
        say(f"{data}: the split is that of the folders: {shown}{others}")
        return datasets, folders
    if table is not None and table.path.name == FORMER_SPLIT_FILE:
        say(f"{table.path}: used as the split table, whose name is now {SPLIT_FILE}")
    if table is not None and folders is not None:
        say(f"{table.path}: gives the split; the folders train, val and test are not used for it")
    if table is not None:
        for sentence in _differing(datasets, table):
            say(sentence)
    return datasets, table


def _differing(datasets: Sequence[Dataset], table: SplitTable) -> Iterator[str]:
    """Yield what a split table and the data do not have in common: a name may be mistyped, or a folder missing."""
    found = {sample.image_id for dataset in datasets for sample in dataset.samples}
    fitted = [image_id for image_id, side in table.split.items() if side in SIDES]
    absent = [image_id for image_id in fitted if image_id not in found]
    if absent:
        n = counted(len(fitted), "image")
        yield f"{table.path}: {len(absent)} of {n} in train or val are not in the data ({some(absent)})"
    for dataset in datasets:
        annotated = [sample.image_id for sample in dataset.samples if sample.has_truth]
        unlisted = [image_id for image_id in annotated if image_id not in table.split]
        if 0 < len(unlisted) < len(annotated):  # a table may be of other data sets alone
            n = counted(len(annotated), "annotated image")
            yield f"{table.path}: {len(unlisted)} of {n} are not listed, and in no split ({some(unlisted)})"


def open_for_training(data: Path, say: Callable[[str], None]) -> tuple[Dataset, SplitTable | None]:
    """Open the one data set in DATA to train on, and its split table.

    Raises
    ------
    DatasetError
        See `open_with_splits` and `nuclei_train.data.finding.training_set`.
    """
    datasets, table = open_with_splits(data, say)
    return training_set(datasets), table
