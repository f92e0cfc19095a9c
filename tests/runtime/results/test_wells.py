"""Wells, from tables and from the names of files."""

from __future__ import annotations

import pytest

from nuclei_runtime.results.wells import Well, find_wells, parse_well


def wells_of(*names: str) -> list[str | None]:
    return [None if well is None else well.name for well in find_wells([{"image": name} for name in names])]


@pytest.mark.parametrize(
    ("text", "place"),
    [("A1", (0, 0)), ("A01", (0, 0)), ("h/12", (7, 11)), ("P-24", (15, 23)), ("AF48", (31, 47)), ("B 003", (1, 2))],
)
def test_a_well_has_a_row_and_a_column(text: str, place: tuple[int, int]) -> None:
    assert parse_well(text) == place
    assert parse_well(Well("", *place).name) == place


@pytest.mark.parametrize("text", ["", "A0", "A49", "AG1", "1A", "A1B", "row 3", "A1.5"])
def test_other_names_are_not_wells(text: str) -> None:
    assert parse_well(text) is None


@pytest.mark.parametrize(
    "names",
    [
        ("A01.tif", "B02.tif"),
        ("exp_A01_s1.tif", "exp_A01_s2.tif", "exp_H12_s1.tif"),
        ("r01c01f01p01-ch1.tiff", "r02c02f03p01-ch1.tiff"),
        ("plate B - C03(fld 1).tif", "plate B - D04(fld 1).tif"),
        ("001_A01.tif", "002_A01.tif", "003_B02.tif"),  # a counter
    ],
)
def test_names_of_files_give_wells(names: tuple[str, ...]) -> None:
    assert None not in wells_of(*names)


def test_the_two_ways_to_name_a_well_give_the_same() -> None:
    assert wells_of("r01c02f01.tif", "r16c24f09.tif") == wells_of("A02.tif", "P24.tif") == ["A02", "P24"]


@pytest.mark.parametrize(
    "names",
    [
        ("A01.tif", "B02.tif", "notes.tif"),  # one without
        ("A01_B02.tif", "B02_C03.tif"),  # two in each
        ("A1.tif", "B2.tif"),  # one digit
        ("P01.tif", "P02.tif"),  # patients
        ("C01-a.tif", "D01-a.tif"),  # one column
        ("DNA01.tif", "DNB02.tif"),  # part of a word
        ("A01b.tif", "A012.tif"),
        ("Q01.tif", "R02.tif"),  # not on a plate with 384 wells
        ("r00c01.tif", "r01c02.tif"),
        ("P1_A01.tif", "P1_B02.tif", "P2_A01.tif", "P2_B02.tif"),  # two plates, or the fields of one
    ],
)
def test_names_that_leave_a_doubt_give_none(names: tuple[str, ...]) -> None:
    assert set(wells_of(*names)) == {None}


def test_each_folder_is_a_plate_of_its_own() -> None:
    found = find_wells([{"image": name} for name in ("1/A01.tif", "1/B02.tif", "2/A01.tif", "2/B02.tif", "3/a.tif")])
    assert found == [Well("1", 0, 0), Well("1", 1, 1), Well("2", 0, 0), Well("2", 1, 1), None]


def test_the_column_well_comes_first() -> None:
    rows = [{"image": "x/A01.tif", "well": "C3"}, {"image": "x/B02.tif", "well": "no well"}]
    assert find_wells(rows) == [Well("x", 2, 2), None]


def test_a_file_with_several_wells_is_a_plate() -> None:
    rows = [{"image": "x/plate.zarr", "well": "A1"}, {"image": "x/plate.zarr", "well": "A2"}]
    assert find_wells(rows) == [Well("x/plate.zarr", 0, 0), Well("x/plate.zarr", 0, 1)]


def test_plates_in_one_folder_are_plates_of_their_own() -> None:
    fields = {"P1_B02_f01": "1", "P1_B02_f12": "12", "P2_B02_f01": "1", "x/P1_B02_f-1": "'-1"}
    rows = [{"image": image, "well": "B02", "field": field} for image, field in fields.items()]
    assert find_wells(rows) == [Well(plate, 1, 1) for plate in ("P1", "P1", "P2", "x/P1")]


def test_an_image_that_is_no_field_lies_on_the_plate_of_its_folder() -> None:
    assert find_wells([{"image": "x/P1_B02_f00", "well": "B02", "field": ""}]) == [Well("x", 1, 1)]
