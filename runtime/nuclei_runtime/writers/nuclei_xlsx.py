"""The tables of a run as an Excel workbook. Needs the extra `formats`."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path

CREATED = datetime(1980, 1, 1)
"""When a workbook was made and last saved, in its properties: no clock. A program that saves it again says when."""

MAX_SHEET_ROWS = 1_048_576
"""Of an Excel worksheet ("Excel specifications and limits", Microsoft), header included."""

_MAX_COLUMN_WIDTH = 40


def write_xlsx(
    tables: Mapping[str, tuple[Path, Mapping[str, type]]], dictionary: Iterable[tuple[str, ...]], target: Path
) -> None:
    """Write a workbook: one sheet per table, and the data dictionary.

    Memory does not grow with the tables. What does not fit into one worksheet goes on in the next one: ``nuclei``,
    ``nuclei 2`` and so on, each with the header.

    Parameters
    ----------
    tables : mapping of str to (Path, mapping of str to type)
        For each sheet a CSV table of the style ``comma``, and for each of its columns str, bool, int or float.
    dictionary : iterable of tuple of str
        Rows of the sheet ``data dictionary``, the header first.
    target : Path
        The new file.
    """
    import xlsxwriter

    # With constant memory, cells hold their texts themselves: rows go to temporary files, one after the other.
    options = {"constant_memory": True, "tmpdir": str(target.parent), "nan_inf_to_errors": True}
    with xlsxwriter.Workbook(str(target), options) as book:
        book.use_zip64()
        book.set_properties({"author": "nuclei-edge", "created": CREATED})
        bold = book.add_format({"bold": True})

        def sheet(name: str, header: Iterable[str]) -> xlsxwriter.worksheet.Worksheet:
            added = book.add_worksheet(name)
            added.freeze_panes(1, 0)
            for column, title in enumerate(header):
                added.set_column(column, column, min(len(title) + 2, _MAX_COLUMN_WIDTH))
            for column, title in enumerate(header):
                added.write_string(0, column, title, bold)
            return added

        for name, (table, kinds) in tables.items():
            with table.open(encoding="utf-8", errors="replace", newline="") as file:
                rows = csv.reader(file)
                header = next(rows)
                parsed = [kinds[title] for title in header]
                current, n_sheets, place = sheet(name, header), 1, 1
                for row in rows:
                    if place == MAX_SHEET_ROWS:
                        n_sheets, place = n_sheets + 1, 1
                        current = sheet(f"{name} {n_sheets}", header)
                    for column, (cell, kind) in enumerate(zip(row, parsed, strict=True)):
                        if cell and kind is str:
                            current.write_string(place, column, cell)
                        elif cell and kind is bool:
                            current.write_boolean(place, column, cell == "true")
                        elif cell:
                            current.write_number(place, column, float(cell))
                    place += 1
        titles, *rest = dictionary
        explained = sheet("data dictionary", titles)
        for place, texts in enumerate(rest, 1):
            for column, text in enumerate(texts):
                explained.write_string(place, column, text)
