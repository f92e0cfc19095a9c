"""The two styles of CSV tables: for programs, and for Excel in countries whose numbers have a decimal comma."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Collection
from pathlib import Path
from typing import Literal

CsvStyle = Literal["comma", "semicolon"]
"""``comma``: separated by commas, with decimal points, as R, Python and Excel in English read it. ``semicolon``:
separated by semicolons, with decimal commas and a byte order mark, so that Excel opens it with a double click where the
system is set to a decimal comma, as in German and French: numbers as numbers and umlauts as umlauts."""

_SEPARATOR = ";"


def write_in_style(table: Path, text_columns: Collection[str], styled: Path) -> None:
    """Write a table of the style ``comma`` in the style ``semicolon``.

    Parameters
    ----------
    table : Path
    text_columns : collection of str
        In these, a point is not a decimal point.
    styled : Path
        The new file.
    """
    with (
        table.open(encoding="utf-8", newline="") as source,
        styled.open("w", encoding="utf-8-sig", newline="") as target,
    ):
        rows, written = csv.reader(source), csv.writer(target, delimiter=_SEPARATOR)
        header = next(rows)
        written.writerow(header)
        are_text = [column in text_columns for column in header]
        for row in rows:
            written.writerow(
                cell if is_text else cell.replace(".", ",") for cell, is_text in zip(row, are_text, strict=True)
            )


def read_header(line: bytes) -> list[str]:
    """Return the names of the columns in the first line of a table of either style."""
    text = line.removeprefix(codecs.BOM_UTF8).rstrip(b"\r\n").decode(errors="replace")
    return next(csv.reader([text], delimiter=separator_of(text)), [])


def separator_of(header: str) -> str:
    """Return what separates the names in a header: the first of both."""
    return min(",;", key=lambda separator: header.find(separator) % (1 << 32))
