"""The joined tables of a results folder: in which formats they are written, one row per format.

All are made from ``nuclei.csv`` and ``images.csv`` of the style ``comma``, after these are joined. They hold nothing
that the records and the tables of the images do not: for another format, no image has to be segmented again.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from nuclei_runtime.errors import ResultsExistError
from nuclei_runtime.results.images_columns import describe_images_column
from nuclei_runtime.results.layout import (
    IMAGES_TABLE,
    JOINED_FILES,
    NUCLEI_PARQUET,
    NUCLEI_TABLE,
    NUCLEI_WORKBOOK,
    SUMMARY_TABLE,
)
from nuclei_runtime.results.summary import describe_summary_column
from nuclei_runtime.steps.columns import Column, describe_column
from nuclei_runtime.writers.csv_style import CsvStyle, read_header, write_in_style
from nuclei_runtime.writers.nuclei_parquet import MARK, write_parquet
from nuclei_runtime.writers.nuclei_xlsx import CREATED, write_xlsx

_DESCRIBE: dict[str, Callable[[str], Column | None]] = {
    NUCLEI_TABLE: describe_column,
    IMAGES_TABLE: describe_images_column,
    SUMMARY_TABLE: describe_summary_column,
}
"""The data dictionary of each table that is joined as CSV."""


@dataclass(frozen=True)
class TableFormat:
    """A format of the table of all nuclei.

    Attributes
    ----------
    file : str
        Its name in the results folder.
    write : callable, optional
        ``write(work, target)``: writes it from the CSV tables in a folder. None for the CSV table itself.
    package : str, optional
        What it needs of the extra `nuclei_runtime.writers.outputs.FORMATS_EXTRA`.
    """

    file: str
    write: Callable[[Path, Path], None] | None = None
    package: str | None = None


@dataclass(frozen=True)
class TableOptions:
    """Which joined tables are written, and how. ``images.csv`` and ``summary.csv`` always are.

    Attributes
    ----------
    formats : tuple of str
        Keys of `TABLE_FORMATS`.
    csv_style : CsvStyle
        Of all CSV tables in the results folder itself.
    """

    formats: tuple[str, ...] = ("table",)
    csv_style: CsvStyle = "comma"

    @property
    def files(self) -> tuple[str, ...]:
        """The names of the joined tables in the results folder."""
        return (*(TABLE_FORMATS[name].file for name in self.formats), IMAGES_TABLE, SUMMARY_TABLE)

    def describe(self) -> dict[str, Any]:
        """Return what ``provenance.json`` says about the joined tables."""
        return asdict(self)


def kinds_of(table: Path) -> dict[str, type]:
    """Return for each column of a CSV table whether it holds str, bool, int or float."""
    with table.open("rb") as file:
        header = read_header(file.readline())
    described = map(_DESCRIBE[table.name], header)
    return {name: str if column is None else column.kind for name, column in zip(header, described, strict=True)}


def text_columns(table: Path) -> set[str]:
    """Return the columns of a CSV table in which a point or a comma has nothing to do with decimals."""
    return {name for name, kind in kinds_of(table).items() if kind is str}


def finish_tables(work: Path, options: TableOptions) -> tuple[str, ...]:
    """Write the formats that were asked for beside the CSV tables, and give these their style.

    Parameters
    ----------
    work : Path
        A folder with the joined tables.
    options : TableOptions

    Returns
    -------
    tuple of str
        The names of the files to keep: `TableOptions.files`.
    """
    for name in options.formats:
        form = TABLE_FORMATS[name]
        if form.write is not None:
            form.write(work, work / form.file)
    if options.csv_style != "comma":
        for name in _DESCRIBE:
            styled = work / f"styled-{name}"
            write_in_style(work / name, text_columns(work / name), styled)
            styled.replace(work / name)
    return options.files


def _write_parquet(work: Path, target: Path) -> None:
    write_parquet(work / NUCLEI_TABLE, kinds_of(work / NUCLEI_TABLE), target)


def _write_xlsx(work: Path, target: Path) -> None:
    tables = {Path(name).stem: (work / name, kinds_of(work / name)) for name in _DESCRIBE}
    write_xlsx(tables, _dictionary(work), target)


def _dictionary(work: Path) -> Iterator[tuple[str, ...]]:
    yield "sheet", "column", "unit", "meaning", "formula"
    for name, describe in _DESCRIBE.items():
        for title in kinds_of(work / name):
            column = describe(title)
            if column is not None:
                yield Path(name).stem, title, column.unit, column.meaning, column.formula


TABLE_FORMATS = {
    "table": TableFormat(NUCLEI_TABLE),
    "parquet": TableFormat(NUCLEI_PARQUET, _write_parquet, "pyarrow"),
    "xlsx": TableFormat(NUCLEI_WORKBOOK, _write_xlsx, "xlsxwriter"),
}
"""By their words in ``--save``."""


def refuse_foreign_files(out: Path, options: TableOptions) -> None:
    """Raise if a Parquet table or a workbook is in the way that no run wrote.

    Raises
    ------
    ResultsExistError
    """
    for name in options.formats:
        path = out / TABLE_FORMATS[name].file
        if TABLE_FORMATS[name].write is not None and path.exists() and not _is_of_a_run(path):
            raise ResultsExistError(
                f"{path}: is in the way of the results: nuclei-infer did not write it, or somebody has saved it since; "
                "move it away, or choose another folder"
            )


def remove_other_formats(out: Path, kept: Collection[str]) -> None:
    """Remove the joined tables that earlier runs wrote in other formats, and that would not agree with these."""
    for name in set(JOINED_FILES) - set(kept):
        if (out / name).exists() and (name in _DESCRIBE or _is_of_a_run(out / name)):
            (out / name).unlink()


def _is_of_a_run(path: Path) -> bool:
    """Whether a file with the name of a Parquet table or a workbook looks like one that a run wrote.

    A power cut may leave a file that is empty or full of zeros. What somebody has saved since, such as a workbook with
    notes or charts in it, is theirs.
    """
    with path.open("rb") as file:
        if not file.read(1 << 16).strip(b"\0"):
            return True
        if path.name == NUCLEI_PARQUET:
            return MARK.encode() in _parquet_footer(file)
        try:
            with zipfile.ZipFile(file) as book:
                properties = book.read("docProps/core.xml")
        except (zipfile.BadZipFile, KeyError):
            return False
        return f"{CREATED.isoformat()}Z</dcterms:modified>".encode() in properties


_PARQUET_END_BYTES = 8
"""A Parquet file ends in its metadata, their length in 4 bytes and ``PAR1`` (the specification, "File Format")."""


def _parquet_footer(file: BinaryIO) -> bytes:
    """Return the metadata of a Parquet file; nothing if it is none."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - _PARQUET_END_BYTES, 0))
    end = file.read()
    length = int.from_bytes(end[:4], "little") + _PARQUET_END_BYTES
    if end[4:] != b"PAR1" or length > size:
        return b""
    file.seek(size - length)
    return file.read(length)
