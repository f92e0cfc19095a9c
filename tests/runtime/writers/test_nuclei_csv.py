"""The measurements of a nucleus, in pixels and in micrometres."""

from __future__ import annotations

import numpy as np
import pytest

from nuclei_runtime.readers.plane import Plane
from nuclei_runtime.results.outcome import PlaneOutcome, outcome_row
from nuclei_runtime.writers.nuclei_csv import NUCLEI_COLUMNS, nucleus_rows


def plane(pixel_size_um: tuple[float, float] | None, time: int | None = None, z: int | None = None) -> Plane:
    return Plane(time, z, (40, 50), np.uint8, pixel_size_um, lambda *_: np.zeros((40, 50)), False)


def disk(height: float, width: float, shape: tuple[int, int]) -> np.ndarray:
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    middle = [(n - 1) / 2 for n in shape]
    return (((rows - middle[0]) / height) ** 2 + ((columns - middle[1]) / width) ** 2 <= 1).astype(np.int32)


def measure(labels: np.ndarray, **options: object) -> dict[str, object]:
    (row,) = nucleus_rows("a.png", np.ones(labels.shape, np.uint8), labels, **options)  # type: ignore[arg-type]
    return dict(zip(NUCLEI_COLUMNS, row, strict=True))


def numbers(row: dict[str, object], *names: str) -> list[float]:
    return [float(str(row[name])) for name in names]


MICROMETRES = [name for name in NUCLEI_COLUMNS if "_um" in name]


def test_micrometres_are_empty_where_the_file_tells_no_size() -> None:
    row = measure(disk(8, 8, (21, 21)))
    assert len(MICROMETRES) == 7
    assert {row[name] for name in MICROMETRES} == {None}
    assert {measure(disk(8, 8, (21, 21)), plane=plane(None))[name] for name in MICROMETRES} == {None}


def test_a_disk_of_square_pixels_has_the_same_form_in_micrometres() -> None:
    row = measure(disk(50, 50, (121, 121)), plane=plane((0.2, 0.2), time=3, z=1))
    assert (row["time"], row["z"]) == (3, 1)
    area, diameter, major, minor, perimeter = numbers(
        row, "area_um2", "equivalent_diameter_um", "axis_major_length_um", "axis_minor_length_um", "perimeter_um"
    )
    assert area == pytest.approx(np.pi * 10**2, rel=0.01)
    assert [diameter, major, minor] == pytest.approx([20, 20, 20], rel=0.01)
    assert perimeter == pytest.approx(np.pi * 20, rel=0.06)  # scikit-image's counts steps
    assert numbers(row, "centroid_um-0", "centroid_um-1") == [12, 12]


def test_a_circle_that_flat_pixels_make_an_ellipse_is_a_circle_in_micrometres() -> None:
    row = measure(disk(50, 25, (121, 61)), plane=plane((0.2, 0.4)))
    assert numbers(row, "axis_major_length", "axis_minor_length") == pytest.approx([100, 50], rel=0.01)
    measured = numbers(row, "equivalent_diameter_um", "axis_major_length_um", "axis_minor_length_um")
    assert measured == pytest.approx([20, 20, 20], rel=0.01)
    assert numbers(row, "centroid_um-0", "centroid_um-1") == [12, 12]
    assert row["perimeter_um"] is None  # there is no formula for it


def test_a_block_is_measured_where_it_lies_in_the_plane() -> None:
    here = measure(disk(8, 8, (21, 21)), plane=plane((0.5, 0.5)))
    there = measure(disk(8, 8, (21, 21)), plane=plane((0.5, 0.5)), origin=(100, 1000))
    moved = {"centroid-0": 100, "centroid-1": 1000, "bbox-0": 100, "bbox-1": 1000, "bbox-2": 100, "bbox-3": 1000}
    moved |= {"centroid_um-0": 50, "centroid_um-1": 500}
    assert {name for name in NUCLEI_COLUMNS if here[name] != there[name]} == set(moved)
    for name, by in moved.items():
        assert numbers(there, name)[0] - numbers(here, name)[0] == by


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_a_files_name_cannot_become_a_formula(start: str) -> None:
    name = f'{start}cmd|"x", a.png'
    assert outcome_row(PlaneOutcome(name, "ok"))[0] == "'" + name
    assert nucleus_rows(name, np.zeros((21, 21)), disk(8, 8, (21, 21)))[0][0] == "'" + name


def test_a_negative_measure_stays_a_number() -> None:
    (row,) = nucleus_rows("a.png", np.full((21, 21), -2.5, np.float32), disk(8, 8, (21, 21)))
    assert float(str(dict(zip(NUCLEI_COLUMNS, row, strict=True))["intensity_mean"])) == -2.5
