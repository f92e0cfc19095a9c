"""The measurements of a nucleus, in pixels and in micrometres."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nuclei_runtime.readers.plane import Plane
from nuclei_runtime.results.outcome import PlaneOutcome, outcome_row
from nuclei_runtime.steps.nuclei_table import measure_nuclei
from nuclei_runtime.writers.csv_cells import csv_cell
from nuclei_runtime.writers.nuclei_csv import join_nuclei_csv, place_of, table_rows


def a_plane(pixel_size_um: tuple[float, float] | None, time: int | None = None, z: int | None = None) -> Plane:
    return Plane(time, z, (40, 50), np.uint8, pixel_size_um, lambda *_: np.zeros((40, 50)), False)


def disk(height: float, width: float, shape: tuple[int, int]) -> np.ndarray:
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    middle = [(n - 1) / 2 for n in shape]
    return (((rows - middle[0]) / height) ** 2 + ((columns - middle[1]) / width) ** 2 <= 1).astype(np.int32)


def measure(labels: np.ndarray, plane: Plane | None = None, **options: Any) -> dict[str, object]:
    plane = plane or a_plane(None)
    place = place_of("a.png", plane)
    table = measure_nuclei(np.ones(labels.shape, np.uint8), labels, pixel_size_um=plane.pixel_size_um, **options)
    (row,) = table_rows(place, table)
    return dict(zip([*place, *table], row, strict=True))


def numbers(row: dict[str, object], *names: str) -> list[float]:
    return [float(str(row[name])) for name in names]


def test_there_are_no_micrometres_where_the_file_tells_no_size() -> None:
    assert [name for name in measure(disk(8, 8, (21, 21))) if "_um" in name] == []
    assert len([name for name in measure(disk(8, 8, (21, 21)), a_plane((0.5, 0.5))) if "_um" in name]) == 7


def test_a_disk_of_square_pixels_has_the_same_form_in_micrometres() -> None:
    row = measure(disk(50, 50, (121, 121)), a_plane((0.2, 0.2), time=3, z=1))
    assert (row["time"], row["z"]) == (3, 1)
    area, diameter, major, minor, perimeter = numbers(
        row, "area_um2", "equivalent_diameter_um", "major_axis_um", "minor_axis_um", "perimeter_um"
    )
    assert area == pytest.approx(np.pi * 10**2, rel=0.01)
    assert [diameter, major, minor] == pytest.approx([20, 20, 20], rel=0.01)
    assert perimeter == pytest.approx(np.pi * 20, rel=0.06)  # scikit-image's counts steps
    assert numbers(row, "circularity", "solidity") == pytest.approx([0.9, 1], abs=0.03)
    assert numbers(row, "centroid_row_um", "centroid_column_um") == [12, 12]


def test_a_circle_that_flat_pixels_make_an_ellipse_is_a_circle_in_micrometres() -> None:
    row = measure(disk(50, 25, (121, 61)), a_plane((0.2, 0.4)))
    assert numbers(row, "major_axis_px", "minor_axis_px") == pytest.approx([100, 50], rel=0.01)
    measured = numbers(row, "equivalent_diameter_um", "major_axis_um", "minor_axis_um")
    assert measured == pytest.approx([20, 20, 20], rel=0.01)
    assert numbers(row, "centroid_row_um", "centroid_column_um") == [12, 12]
    assert not {"perimeter_um", "circularity"} & set(row)  # there is no formula for them


def test_a_block_is_measured_where_it_lies_in_the_plane() -> None:
    size = a_plane((0.5, 0.5))
    here = measure(disk(8, 8, (21, 21)), size)
    there = measure(disk(8, 8, (21, 21)), size, origin=(100, 1000), shape=(300, 2000))
    moved = {"centroid_row_px": 100, "centroid_column_px": 1000, "centroid_row_um": 50, "centroid_column_um": 500}
    moved |= {"bbox_top_px": 100, "bbox_left_px": 1000, "bbox_bottom_px": 100, "bbox_right_px": 1000}
    assert {name for name in here if here[name] != there[name]} == set(moved)
    for name, by in moved.items():
        assert numbers(there, name)[0] - numbers(here, name)[0] == by


@pytest.mark.parametrize(
    ("rows", "columns", "touches"),
    [
        (slice(0, 3), slice(5, 8), True),
        (slice(5, 8), slice(0, 3), True),
        (slice(17, 20), slice(5, 8), True),
        (slice(5, 8), slice(27, 30), True),
        (slice(1, 19), slice(1, 29), False),
    ],
)
def test_a_nucleus_touches_the_border_if_a_pixel_lies_on_an_edge_of_the_plane(
    rows: slice, columns: slice, touches: bool
) -> None:
    labels = np.zeros((20, 30), np.int32)
    labels[rows, columns] = 1
    assert measure(labels)["touches_border"] == str(touches).lower()
    assert measure(labels[rows, columns])["touches_border"] == "true"
    block = measure(labels[rows, columns], origin=(rows.start, columns.start), shape=labels.shape)
    assert block["touches_border"] == str(touches).lower()


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_a_files_name_cannot_become_a_formula(start: str) -> None:
    name = f'{start}cmd|"x", a.png'
    assert outcome_row(PlaneOutcome(name, "ok"))[0] == "'" + name
    assert table_rows(place_of(name, a_plane(None)), {"label": np.array([1])}) == [["'" + name, 1]]


def test_a_negative_measure_stays_a_number_and_one_that_is_not_is_left_empty() -> None:
    assert [csv_cell(value) for value in (-2.5, float("nan"), 1 / 3, True)] == ["-2.5", None, "0.33333333", "true"]


def joined(folder: Path, *tables: str) -> list[str]:
    paths = [folder / f"{number}.csv" for number in range(len(tables))]
    for path, text in zip(paths, tables, strict=True):
        path.write_text(text.replace("\n", "\r\n"), encoding="utf-8", newline="")
    join_nuclei_csv(paths, folder / "joined.csv")
    return (folder / "joined.csv").read_text(encoding="utf-8").splitlines()


def test_a_joined_table_has_the_columns_of_all_its_tables_in_order(tmp_path: Path) -> None:
    """Without those that are empty, as in tables of earlier versions, whose names become those of today."""
    assert joined(
        tmp_path,
        'image,scene,label,area,"intensity_mean:A, B"\na.tif,,1,50,7\n"b,c.tif",,1,60,8\n',
        "image,time,label,area_px,roundness\nd.tif,3,1,70,0.5\n",
        "image,label,area_px,area_um2\n",
    ) == [
        'image,time,label,area_px,"intensity_mean:A, B"',
        "a.tif,,1,50,7",
        '"b,c.tif",,1,60,8',
        "d.tif,3,1,70,",
    ]


def test_without_a_nucleus_the_header_stays(tmp_path: Path) -> None:
    assert joined(tmp_path, "image,label\n", "image,z,label\n") == ["image,z,label"]
    assert joined(tmp_path)[0].startswith("image,label,touches_border,area_px,")
