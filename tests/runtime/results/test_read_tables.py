"""Tables of a run that are read again, such as by the report."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from nuclei_runtime.errors import InputsError
from nuclei_runtime.results.read_tables import open_table


def test_a_table_whose_cell_never_ends_is_damaged(tmp_path: Path) -> None:
    limit = csv.field_size_limit()
    table = tmp_path / "images.csv"
    table.write_text('image,status\na.png,"' + "x" * (limit + 1), encoding="utf-8")
    with (
        pytest.raises(InputsError, match=r"images\.csv: the table is damaged: field larger"),
        open_table(table) as read,
    ):
        list(read[1])
    assert csv.field_size_limit() == limit, "which every other reader of tables shares"
