"""Reads the tables of a results folder again, by the names of their columns, a part at a time."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.errors import InputsError
from nuclei_runtime.results.layout import IMAGES_TABLE, NUCLEI_TABLE, PROVENANCE_FILE
from nuclei_runtime.wording import counted
from nuclei_runtime.writers.csv_cells import csv_cell
from nuclei_runtime.writers.csv_style import separator_of

Row = dict[str, str]
"""The cells of a row, by column; an empty cell is an empty text."""

PlaneKey = tuple[str, str, str, str]
"""The image, scene, time and Z of a row, as the tables write them: what tells one plane from another."""

_KEY_COLUMNS = ("image", "scene", "time", "z")

_NUMBER_OF = {"": "nan", "true": "1", "false": "0"}


def plane_key(row: Row) -> PlaneKey:
    """Return which plane a row of either table belongs to."""
    image, scene, time, z = (row.get(column) or "" for column in _KEY_COLUMNS)
    return image, scene, time, z


def keys_under(header: Sequence[str]) -> Callable[[list[str]], PlaneKey]:
    """Return the function that says which plane a row of a table with this header belongs to."""
    places = [header.index(column) if column in header else None for column in _KEY_COLUMNS]

    def key_of(row: list[str]) -> PlaneKey:
        image, scene, time, z = ("" if place is None else row[place] for place in places)
        return image, scene, time, z

    return key_of


def image_name(row: Row) -> str:
    """Return the name of an image."""
    return unescaped(row["image"])


def unescaped(cell: str) -> str:
    """Return a text without the apostrophe that keeps a spreadsheet from taking it for a formula."""
    return cell[1:] if cell.startswith("'") and csv_cell(cell[1:]) == cell else cell


def read_images(out: Path) -> list[Row]:
    """Read ``images.csv``.

    Raises
    ------
    InputsError
        The folder has no such table, or a damaged one, or one without the columns that every version writes.
    """
    return read_rows(out / IMAGES_TABLE, ("image", "status"))


def read_rows(path: Path, needed: Sequence[str] = ()) -> list[Row]:
    """Read a whole table.

    Raises
    ------
    InputsError
        There is no such table, or it is damaged or lacks a column of `needed`.
    """
    with open_table(path, needed) as (header, rows):
        return [dict(zip(header, row, strict=False)) for row in rows if row]


def nuclei_columns(out: Path) -> tuple[str, ...]:
    """Return the columns of ``nuclei.csv``.

    Raises
    ------
    InputsError
        See `read_images`.
    """
    with open_table(out / NUCLEI_TABLE, ("image", "label")) as (header, _):
        return tuple(header)


def read_nuclei(out: Path, columns: Sequence[str]) -> Iterator[tuple[PlaneKey, NDArray[np.float64]]]:
    """Read columns of numbers from ``nuclei.csv``, one plane after the other, so that any number of nuclei fits.

    Parameters
    ----------
    out : Path
        The results folder.
    columns : sequence of str
        Of the table.

    Yields
    ------
    key : PlaneKey
    values : (n, k) ndarray
        A row per nucleus, a column per name. A cell that is empty or not a number is NaN; true is 1 and false is 0.

    Raises
    ------
    InputsError
        See `read_images`.
    """
    with open_table(out / NUCLEI_TABLE, ("image", "label")) as (header, rows):
        places = [header.index(column) for column in columns]
        for key, of_plane in groupby(_of_length(len(header), rows, out / NUCLEI_TABLE), keys_under(header)):
            cells = [[_NUMBER_OF.get(row[place], row[place]) for place in places] for row in of_plane]
            yield key, _numbers(cells)


def _of_length(length: int, rows: Iterable[list[str]], path: Path) -> Iterator[list[str]]:
    for number, row in enumerate(rows, 1):
        if len(row) != length:
            raise InputsError(
                f"{path}: row {number} has {counted(len(row), 'cell')}, and the header has {length}; the table is "
                "damaged: write it again with nuclei-infer --resume"
            )
        yield row


def _numbers(cells: list[list[str]]) -> NDArray[np.float64]:
    try:
        return np.array(cells, dtype=np.float64)
    except ValueError:
        return np.array([[_number(cell) for cell in row] for row in cells])


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return np.nan


@contextmanager
def open_table(path: Path, needed: Sequence[str] = ()) -> Iterator[tuple[list[str], Iterator[list[str]]]]:
    """Open a table of any style; decimal commas are left as they are."""
    try:
        file = path.open(encoding="utf-8-sig", errors="replace", newline="")
    except FileNotFoundError:
        raise InputsError(
            f"{path.parent}: there is no {path.name} in it; give a results folder of nuclei-infer"
        ) from None
    with file:
        separator = separator_of(file.readline())
        file.seek(0)
        rows = csv.reader(file, delimiter=separator)
        try:
            header = next(rows, [])
            missing = [column for column in needed if column not in header]
            if missing:
                raise InputsError(
                    f"{path}: has no column {' and no column '.join(missing)}; a table of a run is expected, with "
                    f"the {PROVENANCE_FILE} of that run beside it"
                )
            yield header, rows
        except csv.Error as error:
            raise InputsError(
                f"{path}: the table is damaged: {error}; write it again with nuclei-infer --resume"
            ) from error
