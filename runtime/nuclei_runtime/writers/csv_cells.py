"""How values are written into the cells of a CSV table."""

from __future__ import annotations

Cell = str | int | float | None

_FLOAT = ".8g"
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


def csv_cell(value: Cell) -> Cell:
    """Round measurements, and keep a spreadsheet from taking a file name for a formula."""
    if isinstance(value, float):
        return format(value, _FLOAT)
    if isinstance(value, str) and value.startswith(_FORMULA_STARTS):
        return "'" + value
    return value
