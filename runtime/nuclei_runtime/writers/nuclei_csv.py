"""The table of a plane's nuclei: one row per nucleus, with the columns that apply to the plane."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import numpy as np

from nuclei_runtime.readers.plane import Plane
from nuclei_runtime.segmentation.blocks import Block
from nuclei_runtime.steps.columns import OLD_NAMES, in_order
from nuclei_runtime.steps.measure import Measures
from nuclei_runtime.steps.nuclei_table import measure_nuclei
from nuclei_runtime.writers.csv_cells import Cell, csv_cell
from nuclei_runtime.writers.plane_writer import PlaneWriter


class NucleiCsvWriter(PlaneWriter):
    """Writes a CSV table with a header and one row per nucleus, in the order of the labels."""

    def __init__(self, path: Path, image: str, plane: Plane) -> None:
        super().__init__(path, image, plane)
        self._place = place_of(image, plane)
        self._file = path.open("w", encoding="utf-8", newline="")
        self._rows = csv.writer(self._file)
        self._has_header = False

    def write_block(self, _: Block, table: Measures) -> None:
        """Write the rows of a block."""
        if not self._has_header:
            self._rows.writerow([*self._place, *table])
            self._has_header = True
        self._rows.writerows(table_rows(self._place, table))

    def close(self) -> None:
        """Close the table."""
        self._file.close()


def place_of(image: str, plane: Plane) -> dict[str, Cell]:
    """Return the columns that say where a nucleus is: the image, and which of its planes.

    Parameters
    ----------
    image : str
        The image file's name, as results show it.
    plane : Plane
    """
    place: dict[str, Cell] = {
        "image": image,
        "scene": plane.scene_label,
        "well": plane.well,
        "field": plane.field,
        "time": plane.time,
        "z": plane.z,
    }
    return {column: value for column, value in place.items() if value is not None}


def table_rows(place: dict[str, Cell], table: Measures) -> list[list[Cell]]:
    """Return the cells of one row per nucleus: those of `place_of`, then those of a table."""
    first = [csv_cell(value) for value in place.values()]
    cells = ([csv_cell(value) for value in column.tolist()] for column in table.values())
    return [[*first, *row] for row in zip(*cells, strict=True)]


def join_nuclei_csv(tables: Iterable[Path], joined: Path) -> None:
    """Join the tables of an image file's planes."""
    paths = list(tables)
    columns = joined_columns(paths)
    with joined.open("wb") as file:
        file.write(header_of(columns))
        for path in paths:
            append_rows(path, columns, file)


def joined_columns(tables: Iterable[Path]) -> tuple[str, ...]:
    """Return the columns of the table that some tables are joined to: all that have a value in one of them.

    Columns that an earlier version wrote have the names that they have now. Tables that are missing are left out.
    """
    names: dict[bool, dict[str, None]] = {True: {}, False: {}}
    for path in tables:
        try:
            with path.open(encoding="utf-8", errors="replace", newline="") as file:
                rows = csv.reader(file)
                written = next(rows, [])
                header, first = _present_names(written), next(rows, None)
                if first is not None and header != written:  # of an earlier version, which left columns empty
                    filled: set[str] = set()
                    for row in chain([first], rows):
                        filled |= {name for name, cell in zip(header, row, strict=False) if cell}
                    header = [name for name in header if name in filled]
                names[first is not None] |= dict.fromkeys(header)
        except FileNotFoundError:
            continue
    least = ("image", *measure_nuclei(np.zeros((1, 1)), np.zeros((1, 1), np.int32)))
    return in_order(names[True] or names[False] or least)


def header_of(columns: Sequence[str]) -> bytes:
    """Return the header of a table."""
    return _line(columns)


def append_rows(table: Path, columns: Sequence[str], file: BinaryIO) -> None:
    """Append the rows of a table to one with these columns. Cells that it lacks are empty.

    Raises
    ------
    FileNotFoundError
        There is no such table. Nothing is appended.
    """
    header = header_of(columns)
    with table.open("rb") as rows:
        if rows.read(len(header)) == header:
            shutil.copyfileobj(rows, file)
        else:
            rows.seek(0)
            file.writelines(_rearranged(rows, columns))


def _rearranged(table: BinaryIO, columns: Sequence[str]) -> Iterator[bytes]:
    rows = csv.reader(io.TextIOWrapper(table, encoding="utf-8", errors="replace", newline=""))
    places = {name: place for place, name in enumerate(_present_names(next(rows, [])))}
    for row in rows:
        yield _line([row[place] if (place := places.get(name, len(row))) < len(row) else "" for name in columns])


def _present_names(header: Iterable[str]) -> list[str]:
    return [OLD_NAMES.get(name, name) for name in header]


def _line(cells: Sequence[str]) -> bytes:
    line = io.StringIO(newline="")
    csv.writer(line).writerow(cells)
    return line.getvalue().encode()
