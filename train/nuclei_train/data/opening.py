"""DATA -> its data sets together with its split table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nuclei_train.data.dsb2018 import open_data, training_set
from nuclei_train.data.samples import Dataset
from nuclei_train.data.split_table import FORMER_SPLIT_FILE, SPLIT_FILE, SplitTable, read_split_table


def open_with_splits(data: Path, say: Callable[[str], None]) -> tuple[list[Dataset], SplitTable | None]:
    """Open DATA and read its split table.

    Parameters
    ----------
    data : Path
        See `nuclei_train.data.dsb2018.open_data`.
    say : callable
        Takes a sentence for the user: the table still has its former name.

    Raises
    ------
    DatasetError
        See `nuclei_train.data.dsb2018.open_data` and `nuclei_train.data.split_table.read_split_table`.
    """
    datasets = open_data(data)
    table = read_split_table(data)
    if table is not None and table.path.name == FORMER_SPLIT_FILE:
        say(f"{table.path}: used as the split table, whose name is now {SPLIT_FILE}")
    return datasets, table


def open_for_training(data: Path, say: Callable[[str], None]) -> tuple[Dataset, SplitTable | None]:
    """Open the one data set in DATA to train on, and its split table.

    Raises
    ------
    DatasetError
        See `open_with_splits` and `nuclei_train.data.dsb2018.training_set`.
    """
    datasets, table = open_with_splits(data, say)
    return training_set(datasets), table
