"""The user's table of conditions."""

from __future__ import annotations

from pathlib import Path

import pytest

from nuclei_runtime.errors import InputsError
from nuclei_runtime.results.conditions import kept_conditions, read_conditions
from nuclei_runtime.results.wells import find_wells

IMAGES = [{"image": name} for name in ("day 1/a.tif", "day 1/b.tif", "c.tif", "'=d.tif")]


def assigned(tmp_path: Path, text: str) -> tuple[list[str], list[str]]:
    (tmp_path / "table.csv").write_text(text, encoding="utf-8-sig")
    conditions = read_conditions(tmp_path / "table.csv")
    rows = conditions.with_wells(IMAGES)
    return conditions.assign(rows, find_wells(rows))


@pytest.mark.parametrize(
    "text",
    [
        "image,condition\nday 1/a.tif,drug\nb.tif,drug\nc.tif,control\n=d.tif,control\n",
        "Image;Patient\nday 1\\a.tif;drug\nday 1/b.tif;drug\nc.tif;control\n=d.tif;control\n\n",
        "dose\tcondition\timage\n1\tdrug\ta.tif\n2\tdrug\tb.tif\n0\tcontrol\tc.tif\n0\tcontrol\t=d.tif\n",
    ],
)
def test_images_are_named_by_their_path_or_their_name(tmp_path: Path, text: str) -> None:
    assert assigned(tmp_path, text) == (["drug", "drug", "control", "control"], [])


def test_what_does_not_match_is_named(tmp_path: Path) -> None:
    found, notes = assigned(tmp_path, "image,condition\na.tif,drug\nz.tif,drug\ny.tif,\n")
    assert found == ["drug", "", "", ""]
    without, unused = notes
    assert without.startswith("3 images without a condition")
    assert all(row["image"] in without for row in IMAGES[1:])
    assert unused.startswith("2 rows of ")
    assert unused.endswith("without an image: y.tif, z.tif")


@pytest.mark.parametrize(
    "text",
    [
        'image;condition;dose\nday 1\\a.tif;"Wirkstoff ""Ä"", 5 µM";1\n=d.tif;=x;2\nb.tif;;3\n',
        "Image,Well,Patient\na.tif,A1,x\nb.tif,,y\n",
        "image,well\na.tif,A1\n",
        "well\tdose\nA1\t1.5\nAA12\t2\n",
        "plate,well,dose\nx\\1,A1,1\n,A1,2\n",
    ],
)
def test_what_is_kept_for_the_next_run_reads_the_same(tmp_path: Path, text: str) -> None:
    (tmp_path / "table.csv").write_text(text, encoding="utf-8-sig")
    given = read_conditions(tmp_path / "table.csv")
    assert kept_conditions(tmp_path) is None
    (tmp_path / "records").mkdir()
    (tmp_path / "records/conditions.csv").write_text(given.to_csv(), encoding="utf-8")
    kept = kept_conditions(tmp_path)
    assert kept is not None
    assert (kept.key, kept.of, kept.wells) == (given.key, given.of, given.wells)


def test_wells_have_conditions_on_every_plate(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("well,condition\nA1,drug\nB02,control\n", encoding="utf-8")
    rows = [{"image": name} for name in ("1/A01.tif", "1/B02.tif", "2/A01.tif", "2/B02.tif")]
    conditions = read_conditions(tmp_path / "table.csv")
    assert conditions.assign(rows, find_wells(rows)) == (["drug", "control", "drug", "control"], [])


def test_wells_of_a_plate_that_is_named_have_conditions_there_alone(tmp_path: Path) -> None:
    table = "Plate,Well,Dose\n1,A1,drug\nx/2,A1,control\n,B2,none\n3,C3,none\n"
    (tmp_path / "table.csv").write_text(table, encoding="utf-8")
    names = [f"{plate}/{well}.tif" for plate in ("1", "x/2", "4") for well in ("A01", "B02")]
    rows = [{"image": name} for name in names]
    found, (without, unused) = read_conditions(tmp_path / "table.csv").assign(rows, find_wells(rows))
    assert found == ["drug", "none", "control", "none", "", "none"]
    assert without.startswith("1 image without a condition")
    assert without.endswith("4/A01.tif")
    assert unused.endswith("without an image: 3/C03")


def test_a_plate_alone_may_be_the_condition(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("well,plate\nA1,first\n", encoding="utf-8")
    assert list(read_conditions(tmp_path / "table.csv").of.values()) == ["first"]


def test_the_table_can_say_the_well_of_an_image(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("image,well,condition\na.tif,A1,x\nb.tif,B2,x\n", encoding="utf-8")
    rows = read_conditions(tmp_path / "table.csv").with_wells([*IMAGES, {"image": "a.tif", "well": "H12"}])
    assert [row.get("well") for row in rows] == ["A1", "B2", "", "", "H12"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "found the columns none; expected a column image or well"),
        ("file,condition\na,b\n", "found the columns file, condition; expected"),
        ("image,dose,time\na,b,c\n", "and a column condition"),
        ("image,condition\na.tif,x\na.tif,y\n", "line 3: a.tif was 'x' in an earlier line and is 'y' here"),
        ("well,condition\nA1,x\n1A,y\n", "line 3: found the well '1A', expected one such as A01"),
        ("image,condition,condition\na.tif,x,y\n", "has two columns called condition; leave one of the two"),
        (f"image,condition\na.tif,{'x' * 200_000}\n", "cannot be read as a table"),
    ],
)
def test_a_table_that_cannot_be_right_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "table.csv").write_text(text, encoding="utf-8")
    with pytest.raises(InputsError, match=r"table\.csv") as refused:
        read_conditions(tmp_path / "table.csv")
    assert problem in str(refused.value)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_bytes(b"image,condition\na.tif,\xe4\n")
    with pytest.raises(InputsError, match="is not UTF-8 text"):
        read_conditions(tmp_path / "table.csv")
    with pytest.raises(InputsError, match="No such file"):
        read_conditions(tmp_path / "missing.csv")
