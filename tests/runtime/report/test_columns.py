"""The columns of a report: which are in it, and with how many digits."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from nuclei_runtime.errors import InputsError
from nuclei_runtime.report.columns import (
    MAX_EXACT_VALUES,
    MAX_NUCLEI,
    MAX_VALUES,
    PackedColumn,
    chosen_columns,
    dropped_bits,
)
from nuclei_runtime.steps.columns import NUCLEI_COLUMNS

OPTIONAL = ("cell", "ring")
WITH_UM = [one.name for one in NUCLEI_COLUMNS if ":" not in one.name and not one.name.startswith(OPTIONAL)]
WITHOUT_UM = [name for name in WITH_UM if not name.endswith(("_um", "_um2"))]


def unpacked(column: PackedColumn) -> np.ndarray:
    planes = [np.frombuffer(zlib.decompress(stream), np.uint8) for stream in column.finish()]
    return np.stack(planes, axis=1).copy().view("<f4")[:, 0]


def test_a_small_report_has_every_column_of_numbers() -> None:
    kept, left_out = chosen_columns(WITH_UM, 1000)
    assert left_out == []
    assert kept == WITH_UM[WITH_UM.index("label") :]


@pytest.mark.parametrize(("columns", "area"), [(WITH_UM, "area_um2"), (WITHOUT_UM, "area_px")])
def test_a_large_report_has_the_columns_that_say_most(columns: list[str], area: str) -> None:
    kept, left_out = chosen_columns(columns, MAX_VALUES // 12)
    assert len(kept) == 12
    assert {"label", "touches_border", "circularity", "solidity", "intensity_mean", area} <= set(kept)
    assert set(kept) | set(left_out) == set(columns[columns.index("label") :])
    assert [name for name in left_out if "bbox" in name] == [name for name in columns if "bbox" in name]


def test_a_report_that_no_browser_would_show_is_refused() -> None:
    with pytest.raises(InputsError, match="3,000,001 nuclei would be too large"):
        chosen_columns(WITH_UM, MAX_NUCLEI + 1)


def test_exact_columns_keep_all_digits_and_gaps() -> None:
    values = np.array([1, -2.5, 16_777_215, 0, np.nan, 1e-30, 65_535.125], np.float32)
    column = PackedColumn(0)
    column.add(values[:3])
    column.add(values[3:])
    assert np.array_equal(unpacked(column), values, equal_nan=True)


def test_rounded_columns_are_right_to_a_twentieth_of_a_percent() -> None:
    values = np.random.default_rng(0).lognormal(5, 3, 10_000).astype(np.float32)
    values[:4] = np.nan, 0, 2047, -1234
    column = PackedColumn(dropped_bits(MAX_EXACT_VALUES + 1))
    column.add(values)
    found = unpacked(column)
    assert np.isnan(found[0])
    assert found[1:4].tolist() == [0, 2047, -1234]
    error = np.abs(found[4:] / values[4:] - 1)
    assert 0.0001 < error.max() <= 0.0005
