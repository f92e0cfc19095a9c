"""The data dictionary describes what is written, in the order of the table."""

from __future__ import annotations

import random

import numpy as np
import pytest

from nuclei_runtime.steps.columns import NUCLEI_COLUMNS, OLD_NAMES, describe_column, in_order
from nuclei_runtime.steps.nuclei_table import measure_nuclei

NAMES = [column.name for column in NUCLEI_COLUMNS]


@pytest.mark.parametrize("pixel_size_um", [None, (0.5, 0.5), (0.5, 0.25)])
def test_every_measurement_is_described_and_in_order(pixel_size_um: tuple[float, float] | None) -> None:
    labels = np.eye(9, dtype=np.int32)
    table = measure_nuclei(np.ones(labels.shape), labels, pixel_size_um=pixel_size_um)
    assert [name for name in NAMES if name in table] == list(table)


def test_units_are_in_the_names() -> None:
    for column in NUCLEI_COLUMNS:
        ending = column.name.rpartition("_")[2]
        assert (ending in ("px", "um", "um2", "rad")) == (column.unit in ("px", "um", "um2", "rad")), column.name
        assert column.unit in ("", "intensity units of the file", ending), column.name
        assert column.meaning, column.name


def test_earlier_names_lead_to_names_of_today() -> None:
    assert set(OLD_NAMES.values()) <= set(NAMES)
    assert not set(OLD_NAMES) & set(NAMES)


def test_columns_of_a_channel_are_described_with_its_name() -> None:
    column = describe_column("ring_intensity_sd:Alexa: 488")
    assert column is not None
    assert column.name == "ring_intensity_sd:Alexa: 488"
    assert column.meaning.endswith("; the channel Alexa: 488")
    for unknown in ("roundness", "area_px:DAPI", "intensity_mean:", "intensity_median:DAPI", ""):
        assert describe_column(unknown) is None


def test_any_order_is_put_right_channel_by_channel() -> None:
    statistics = ("mean", "sum", "min", "max", "sd")
    channels = [f"intensity_{one}:{channel}" for channel in ("GFP", "DAPI") for one in statistics]
    rings = [f"ring_intensity_{one}:{channel}" for channel in ("GFP", "DAPI") for one in statistics]
    expected = ["image", "label", "area_px", "intensity_mean", *channels, "cell_area_px", "ring_intensity_sd", *rings]
    mixed = [*expected[4:], *expected[:4]]
    assert list(in_order(mixed)) == expected
    random.Random(0).shuffle(mixed)
    assert list(in_order(["intensity_mean:GFP", "unknown", *mixed])) == expected
