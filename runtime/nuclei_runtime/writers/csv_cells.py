"""How values are written into the cells of a CSV table."""

from __future__ import annotations

import math

Cell = str | int | float | None

_FLOAT = ".8g"
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


def csv_cell(value: Cell) -> Cell:
    """Round measurements, leave the cell of NaN empty, and keep a spreadsheet from taking a name for a formula."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return None if math.isnan(value) else format(value, _FLOAT)
    if isinstance(value, str) and value.startswith(_FORMULA_STARTS):
        return "'" + value
    return value
