"""A nuclei table as Parquet, for R, pandas, Polars and DuckDB. Needs the extra `formats`."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROW_GROUP = 65_536
"""Rows that are in memory at a time, and that a reader reads at a time."""


def write_parquet(table: Path, kinds: Mapping[str, type], target: Path) -> None:
    """Write a CSV table of the style ``comma`` as Parquet; empty cells become null.

    Parameters
    ----------
    table : Path
    kinds : mapping of str to type
        For each column str, bool, int or float.
    target : Path
        The new file.
    """
    import pyarrow
    from pyarrow import parquet

    types = {str: pyarrow.string(), bool: pyarrow.bool_(), int: pyarrow.int64(), float: pyarrow.float64()}
    with table.open(encoding="utf-8", errors="replace", newline="") as file:
        rows = csv.reader(file)
        header = next(rows)
        schema = pyarrow.schema([(name, types[kinds[name]]) for name in header])
        with parquet.ParquetWriter(target, schema, compression="zstd") as written:
            part: list[list[str]] = []
            for row in rows:
                part.append(row)
                if len(part) == ROW_GROUP:
                    written.write_batch(_batch(part, schema, kinds))
                    part.clear()
            if part:
                written.write_batch(_batch(part, schema, kinds))


def _batch(rows: list[list[str]], schema: Any, kinds: Mapping[str, type]) -> Any:
    import pyarrow

    columns = [
        pyarrow.array([_parsed(cell, kinds[field.name]) for cell in column], field.type)
        for field, column in zip(schema, zip(*rows, strict=True), strict=True)
    ]
    return pyarrow.record_batch(columns, schema=schema)


def _parsed(cell: str, kind: type) -> str | bool | int | float | None:
    if not cell:
        return None
    return cell == "true" if kind is bool else kind(cell)
