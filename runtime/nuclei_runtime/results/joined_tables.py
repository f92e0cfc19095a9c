"""``images.csv`` and ``nuclei.csv``, joined from the records and tables of the images, however these were made."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from nuclei_runtime.errors import ResultsExistError
from nuclei_runtime.results.layout import IMAGES_TABLE, NUCLEI_TABLE, PROVENANCE_FILE, record_path, token_of
from nuclei_runtime.results.outcome import IMAGES_COLUMNS, outcome_row
from nuclei_runtime.results.records import Record, read_record
from nuclei_runtime.wording import counted
from nuclei_runtime.writers.nuclei_csv import NUCLEI_COLUMNS
from nuclei_runtime.writers.outputs import TABLES

_COLUMNS = {NUCLEI_TABLE: NUCLEI_COLUMNS, IMAGES_TABLE: IMAGES_COLUMNS}

_KEY_COLUMNS = {NUCLEI_TABLE: {"image", "label"}, IMAGES_TABLE: {"image", "status"}}
"""Columns that the tables have in every version."""

_MAX_HEADER_BYTES = 1 << 16
_HEADER = (",".join(NUCLEI_COLUMNS) + "\r\n").encode()


@dataclass(frozen=True)
class Joined:
    """What the joined tables contain.

    Attributes
    ----------
    run_keys : frozenset of str
        Of the images in the tables.
    n_made_otherwise : int
        Images whose run key differs from that of the present run.
    left_out : tuple of str
        Images with a record whose table is missing.
    """

    run_keys: frozenset[str]
    n_made_otherwise: int
    left_out: tuple[str, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """One sentence for each thing that the user should know."""
        notes = []
        if self.n_made_otherwise:
            notes.append(
                f"note: {counted(self.n_made_otherwise, 'image')} in {IMAGES_TABLE} and {NUCLEI_TABLE} "
                f"{'was' if self.n_made_otherwise == 1 else 'were'} segmented with another model, other options or "
                f"another version; {PROVENANCE_FILE} describes {'it' if self.n_made_otherwise == 1 else 'them'} under "
                "earlier_methods"
            )
        notes += [
            f"note: {name}: is not in {IMAGES_TABLE} and {NUCLEI_TABLE} because its table is missing; segment it again"
            for name in self.left_out
        ]
        return tuple(notes)


def refuse_foreign_tables(out: Path) -> None:
    """Raise if a file with a table's name was not written by nuclei-edge.

    A table with more or fewer columns counts as one of another version if there is a provenance as well. A power cut
    may leave a file that is empty or full of zeros.

    Raises
    ------
    ResultsExistError
        The file is the user's own.
    """
    for name, columns in _COLUMNS.items():
        try:
            with (out / name).open("rb") as file:
                header = file.readline(_MAX_HEADER_BYTES).rstrip(b"\r\n").decode(errors="replace").split(",")
        except FileNotFoundError:
            continue
        of_another_version = _KEY_COLUMNS[name] <= set(header) and (out / PROVENANCE_FILE).is_file()
        if tuple(header) != columns and "".join(header).strip("\0") and not of_another_version:
            raise ResultsExistError(
                f"{out / name}: is in the way of the results, and nuclei-infer did not write it; move it away, or "
                "name another folder"
            )


def write_tables(
    out: Path, names: Iterable[str], run_key: str, *, work: Path, needed: Collection[str] = ()
) -> Joined | None:
    """Write both tables from the records, row by row.

    Parameters
    ----------
    out : Path
        The results folder.
    names : iterable of str
        Of the images, in the order of the rows. Those without a record are left out.
    run_key : str
        Of the present run.
    work : Path
        Folder to write the tables to.
    needed : collection of str
        Images that must have a record: without one, no tables are written.

    Returns
    -------
    Joined or None
        None if an image of `needed` has no record of this run key.
    """
    needed = set(needed)
    run_keys: list[str] = []
    left_out: list[str] = []
    # A file name may hold bytes that are not text: such an image fails, and is shown with these bytes escaped.
    with (
        (work / IMAGES_TABLE).open("w", encoding="utf-8", errors="backslashreplace", newline="") as images,
        (work / NUCLEI_TABLE).open("wb") as nuclei,
    ):
        rows = csv.writer(images)
        rows.writerow(IMAGES_COLUMNS)
        nuclei.write(_HEADER)
        for name in names:
            record = None
            with suppress(FileNotFoundError):  # not begun, or interrupted
                record = read_record(record_path(out, token_of(name)))
            if name in needed and (record is None or record.run_key != run_key):
                return None
            if record is None:
                continue
            try:
                _append_nuclei(out, record, nuclei)
            except FileNotFoundError:
                left_out.append(name)
                continue
            rows.writerows(map(outcome_row, record.planes))
            run_keys.append(record.run_key)
    n_made_otherwise = sum(key != run_key for key in run_keys)
    return Joined(frozenset(run_keys), n_made_otherwise, tuple(left_out))


def _append_nuclei(out: Path, record: Record, nuclei: BinaryIO) -> None:
    """Append the rows of an image's tables.

    Raises
    ------
    FileNotFoundError
        A table is missing; then nothing is appended.
    """
    for path in record.results:
        if path.startswith(f"{TABLES.folder}/"):
            with (out / path).open("rb") as table:
                if table.read(len(_HEADER)) == _HEADER:
                    shutil.copyfileobj(table, nuclei)
                else:
                    table.seek(0)
                    nuclei.writelines(_rows_of_another_version(table))


def _rows_of_another_version(table: BinaryIO) -> Iterator[bytes]:
    """Yield the rows of a table with other columns: missing cells are empty, and unknown columns are left out."""
    text = io.TextIOWrapper(table, encoding="utf-8", errors="replace", newline="")
    for row in csv.DictReader(text):
        line = io.StringIO(newline="")
        csv.writer(line).writerow([row.get(column) for column in NUCLEI_COLUMNS])
        yield line.getvalue().encode()
