"""The tables of a results folder, joined from the records and tables of the images, however these were made.

Images differ in what is known and measured: ``nuclei.csv`` has the columns of all their tables.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nuclei_runtime.errors import ResultsExistError
from nuclei_runtime.results.conditions import CONDITION, Conditions
from nuclei_runtime.results.experiment import read_experiment, write_conditions
from nuclei_runtime.results.layout import (
    IMAGES_TABLE,
    NUCLEI_TABLE,
    PROVENANCE_FILE,
    SUMMARY_TABLE,
    record_path,
    recorded_tokens,
    token_of,
)
from nuclei_runtime.results.outcome import IMAGES_COLUMNS, outcome_row
from nuclei_runtime.results.records import Record, read_record
from nuclei_runtime.results.summary import FIRST_COLUMNS, write_summary
from nuclei_runtime.steps.columns import in_order
from nuclei_runtime.wording import counted
from nuclei_runtime.writers.csv_style import read_header
from nuclei_runtime.writers.nuclei_csv import append_rows, header_of, joined_columns
from nuclei_runtime.writers.outputs import TABLES

_KEY_COLUMNS = {
    NUCLEI_TABLE: {"image", "label"},
    IMAGES_TABLE: {"image", "status"},
    SUMMARY_TABLE: set(FIRST_COLUMNS),
}
"""Columns that the tables have in every version."""

_MAX_HEADER_BYTES = 1 << 16


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
        Images whose table is missing, or whose record is damaged.
    folders : frozenset of str
        Those with results of the images in the tables: not one that failed has any.
    of_conditions : tuple of str
        What the user should know of the conditions.
    """

    run_keys: frozenset[str]
    n_made_otherwise: int
    left_out: tuple[str, ...]
    folders: frozenset[str]
    of_conditions: tuple[str, ...] = ()

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
            f"note: {name}: not in {IMAGES_TABLE} and {NUCLEI_TABLE} because its table or its record is missing or "
            "damaged; segment it again with --resume"
            for name in self.left_out
        ]
        notes += [f"note: {note}" for note in self.of_conditions]
        return tuple(notes)


def refuse_foreign_tables(out: Path) -> None:
    """Raise if a file with a table's name was not written by nuclei-edge.

    A table with the columns that every version writes counts as one of another version if there is a provenance or a
    record as well. A power cut may leave a file that is empty or full of zeros.

    Raises
    ------
    ResultsExistError
        The file is the user's own.
    """
    of_any_version = (out / PROVENANCE_FILE).is_file() or any(recorded_tokens(out))
    for name, key_columns in _KEY_COLUMNS.items():
        try:
            with (out / name).open("rb") as file:
                line = file.readline(_MAX_HEADER_BYTES)
        except FileNotFoundError:
            continue
        header = tuple(read_header(line))
        is_ours = key_columns <= set(header) and (of_any_version or _is_of_this_version(name, header))
        if line.strip(b"\r\n\0") and not is_ours:
            raise ResultsExistError(
                f"{out / name}: is in the way of the results: nuclei-infer did not write it; move it away, or "
                "choose another folder"
            )


def _is_of_this_version(name: str, header: tuple[str, ...]) -> bool:
    """Whether this version may give a table these columns."""
    if name == NUCLEI_TABLE:
        return header == in_order(header)
    if name == SUMMARY_TABLE:  # what follows depends on what is measured
        return header[: len(FIRST_COLUMNS)] == FIRST_COLUMNS
    return tuple(column for column in header if column != CONDITION) == IMAGES_COLUMNS


def write_tables(
    out: Path,
    names: Iterable[str],
    run_key: str,
    *,
    work: Path,
    needed: Collection[str] = (),
    conditions: Conditions | None = None,
) -> Joined | None:
    """Write the tables from the records, row by row.

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
        Images that this run must be done with: otherwise, no tables are written.
    conditions : Conditions, optional
        Of the images, for a column of both tables and for the summary.

    Returns
    -------
    Joined or None
        None if an image of `needed` has no record that says so.
    """
    names, needed = list(names), set(needed)
    run_keys: list[str] = []
    left_out: list[str] = []
    folders: set[str] = set()
    columns = joined_columns(
        path for _, record, _ in _records(out, names) if record is not None for path in _tables(out, record)
    )
    # A file name may hold bytes that are not text: such an image fails, and is shown with these bytes escaped.
    with (
        (work / IMAGES_TABLE).open("w", encoding="utf-8", errors="backslashreplace", newline="") as images,
        (work / NUCLEI_TABLE).open("wb") as nuclei,
    ):
        rows = csv.writer(images)
        rows.writerow(IMAGES_COLUMNS)
        nuclei.write(header_of(columns))
        for name, record, is_damaged in _records(out, names):
            if name in needed and (record is None or not record.is_tried(run_key)):
                return None
            if record is None:
                left_out += [name] * is_damaged
                continue
            try:
                for table in _tables(out, record):
                    append_rows(table, columns, nuclei)
            except FileNotFoundError:
                left_out.append(name)
                continue
            rows.writerows(map(outcome_row, record.planes))
            run_keys.append(record.run_key)
            folders |= {path.partition("/")[0] for path in record.results}
    experiment = read_experiment(work, conditions)
    if conditions is not None:
        write_conditions(work, experiment)
    write_summary(work, experiment, work / SUMMARY_TABLE)
    n_made_otherwise = sum(key != run_key for key in run_keys)
    return Joined(frozenset(run_keys), n_made_otherwise, tuple(left_out), frozenset(folders), experiment.notes)


def _records(out: Path, names: Iterable[str]) -> Iterator[tuple[str, Record | None, bool]]:
    """Yield each image with its record, None if it has none or a damaged one, and whether that is damaged."""
    for name in names:
        try:
            record = read_record(record_path(out, token_of(name)))
        except FileNotFoundError:  # not begun, or interrupted
            yield name, None, False
        else:
            yield name, record, record is None


def _tables(out: Path, record: Record) -> list[Path]:
    return [out / path for path in record.results if path.startswith(f"{TABLES.folder}/")]
