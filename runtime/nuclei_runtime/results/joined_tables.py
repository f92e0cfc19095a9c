"""``images.csv`` and ``nuclei.csv``, joined from records and tables, the same whoever made them and in which order."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Collection, Iterable
from contextlib import ExitStack
from pathlib import Path

from nuclei_runtime.errors import ResultsExistError
from nuclei_runtime.results.layout import IMAGES_TABLE, NUCLEI_TABLE, record_path, token_of
from nuclei_runtime.results.outcome import IMAGES_COLUMNS, outcome_row
from nuclei_runtime.results.records import read_record
from nuclei_runtime.writers.nuclei_csv import NUCLEI_COLUMNS
from nuclei_runtime.writers.outputs import TABLES

_COLUMNS = {NUCLEI_TABLE: NUCLEI_COLUMNS, IMAGES_TABLE: IMAGES_COLUMNS}


def refuse_foreign_tables(out: Path) -> None:
    """Raise if a file that bears a table's name is none; nothing or zeros, which a power cut may leave, will do."""
    for name, columns in _COLUMNS.items():
        path = out / name
        if not path.exists():
            continue
        header = ",".join(columns).encode()
        with path.open("rb") as file:
            start = file.read(len(header) + 2)
            if start.rstrip(b"\r\n") != header and start.strip(b"\0"):
                raise ResultsExistError(
                    f"{path}: is in the way of the results and no run of this version wrote it; "
                    "move it away or name another folder"
                )


def write_tables(out: Path, names: Iterable[str], run_key: str, *, work: Path, needed: Collection[str] = ()) -> bool:
    """Write both tables from the records, row by row.

    Parameters
    ----------
    out : Path
        The results folder.
    names : iterable of str
        The images', in the order of the rows.
    run_key : str
        Images without a record, or with one of another run key, are left out.
    work : Path
        The folder that the tables are written to.
    needed : collection of str
        Stop where one of these would be left out.

    Returns
    -------
    bool
        Whether they were written to the end.
    """
    needed = set(needed)
    # A file's name may hold bytes that are no text: such an image fails, and is named with them escaped.
    with (
        (work / IMAGES_TABLE).open("w", encoding="utf-8", errors="backslashreplace", newline="") as images,
        (work / NUCLEI_TABLE).open("wb") as nuclei,
    ):
        rows = csv.writer(images)
        rows.writerow(IMAGES_COLUMNS)
        nuclei.write(header := (",".join(NUCLEI_COLUMNS) + "\r\n").encode())
        for name in names:
            with ExitStack() as opened:
                try:
                    record = read_record(record_path(out, token_of(name)))
                    results = () if record is None else record.results
                    tables = [
                        opened.enter_context((out / path).open("rb"))
                        for path in results
                        if path.startswith(f"{TABLES.folder}/")
                    ]
                except FileNotFoundError:  # not begun, or interrupted
                    record = None
                if record is None or record.run_key != run_key:
                    if name in needed:
                        return False
                    continue
                rows.writerows(map(outcome_row, record.planes))
                for table in tables:
                    table.seek(len(header))
                    shutil.copyfileobj(table, nuclei)
    return True
