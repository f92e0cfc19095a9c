"""The joined tables as Parquet, as an Excel workbook and as CSV for Excel, read by pyarrow and openpyxl."""

from __future__ import annotations

import csv
import io
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import openpyxl
import pyarrow
import pytest
from pyarrow import csv as arrow_csv
from pyarrow import parquet

from nuclei_runtime.errors import ResultsExistError, RuntimeEnvironmentError
from nuclei_runtime.results import table_formats
from nuclei_runtime.results.images_columns import describe_images_column
from nuclei_runtime.results.outcome import IMAGES_COLUMNS
from nuclei_runtime.results.table_formats import TABLE_FORMATS, TableOptions, finish_tables, refuse_foreign_files
from nuclei_runtime.results.writing import writing
from nuclei_runtime.writers import nuclei_parquet, nuclei_xlsx
from nuclei_runtime.writers.csv_style import read_header

NUCLEI = [
    ["image", "scene", "time", "label", "touches_border", "area_px", "circularity", "intensity_mean:A, \u00fc"],
    ["=Z\u00fcrich 1.5,\n\u03b1.tif", "1.5", "0", "1", "true", "1234.5", "", "-1.25e-05"],
    ["b.tif", "", "", "2", "false", "1e+09", "0.5", "1200"],
]


SUMMARY = [
    ["by", "group", "n_images", "area_px_median", "intensity_mean:A, \u00fc_q25"],
    ["folder", "1.5", "1", "1234.5", "0.5"],
]


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder with joined tables as they are before they get their formats."""
    images = [IMAGES_COLUMNS, ["b.tif", "failed", *[""] * (len(IMAGES_COLUMNS) - 2)]]
    images[1][IMAGES_COLUMNS.index("reason")] = "found 1.5, expected 2"
    for name, rows in (("nuclei.csv", NUCLEI), ("images.csv", images), ("summary.csv", SUMMARY)):
        with (tmp_path / name).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(rows)
    return tmp_path


def test_parquet_has_the_values_with_their_types(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nuclei_parquet, "PART_BYTES", 150)
    assert finish_tables(work, TableOptions(("parquet",))) == ("nuclei.parquet", "images.csv", "summary.csv")
    table = parquet.read_table(work / "nuclei.parquet")
    assert parquet.ParquetFile(work / "nuclei.parquet").num_row_groups == 2
    assert table.to_pydict() == {
        "image": [NUCLEI[1][0], "b.tif"],
        "scene": ["1.5", None],
        "time": [0, None],
        "label": [1, 2],
        "touches_border": [True, False],
        "area_px": [1234.5, 1e9],
        "circularity": [None, 0.5],
        "intensity_mean:A, \u00fc": [-1.25e-05, 1200],
    }
    assert [str(field.type) for field in table.schema] == [
        *("string", "string", "int64", "int64", "bool", "double", "double", "double")
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="names that are not UTF-8 exist on Linux only")
def test_a_folder_may_have_a_name_that_is_not_text(work: Path) -> None:
    odd = work.rename(work.with_name(os.fsdecode(b"res\xff")))
    finish_tables(odd, TableOptions(("parquet", "xlsx")))
    assert parquet.read_table(io.BytesIO((odd / "nuclei.parquet").read_bytes())).num_rows == 2
    assert (odd / "nuclei.xlsx").stat().st_size > 0


def test_a_workbook_has_numbers_as_numbers_and_explains_its_columns(work: Path) -> None:
    finish_tables(work, TableOptions(("xlsx",)))
    book = openpyxl.load_workbook(work / "nuclei.xlsx")
    assert book.sheetnames == ["nuclei", "images", "summary", "data dictionary"]
    rows = list(book["nuclei"].iter_rows(values_only=True))
    assert rows == [
        tuple(NUCLEI[0]),
        (NUCLEI[1][0], "1.5", 0, 1, True, 1234.5, None, -1.25e-05),
        ("b.tif", None, None, 2, False, 1e9, 0.5, 1200),
    ]
    assert book["nuclei"]["A2"].data_type == "s"  # no formula
    assert list(book["images"].iter_rows(values_only=True))[1][:2] == ("b.tif", "failed")
    explained = {row[:2]: row[2:] for row in book["data dictionary"].iter_rows(values_only=True)}
    assert explained["sheet", "column"] == ("unit", "meaning", "formula")
    assert {name for sheet, name in explained if sheet == "nuclei"} == set(NUCLEI[0])
    assert {name for sheet, name in explained if sheet == "images"} == set(IMAGES_COLUMNS)
    assert explained["nuclei", "area_px"] == ("px", "area", "number of pixels")
    assert list(book["summary"].iter_rows(values_only=True))[1] == ("folder", "1.5", 1, 1234.5, 0.5)
    assert explained["summary", "area_px_median"][:2] == ("px", "median of area_px over the nuclei of the group")
    assert {name for sheet, name in explained if sheet == "summary"} == set(SUMMARY[0])


def test_what_a_worksheet_cannot_hold_goes_on_in_the_next(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nuclei_xlsx, "MAX_SHEET_ROWS", 3)
    with (work / "nuclei.csv").open("a", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(["b.tif", "", "", str(n), "false", "1", "1", "1"] for n in (3, 4, 5))
    finish_tables(work, TableOptions(("xlsx",)))
    book = openpyxl.load_workbook(work / "nuclei.xlsx")
    assert book.sheetnames[:3] == ["nuclei", "nuclei 2", "nuclei 3"]
    sheets = [list(book[name].iter_rows(values_only=True)) for name in book.sheetnames[:3]]
    assert [sheet[0] for sheet in sheets] == [tuple(NUCLEI[0])] * 3
    assert [row[3] for sheet in sheets for row in sheet[1:]] == [1, 2, 3, 4, 5]


def test_equal_tables_give_equal_bytes(work: Path) -> None:
    contents = []
    for _ in range(2):
        finish_tables(work, TableOptions(("parquet", "xlsx")))
        contents.append([(work / name).read_bytes() for name in ("nuclei.parquet", "nuclei.xlsx")])
    assert contents[0] == contents[1]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="NOT RUN: this system has no disk that is always full")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of the zip that could not be closed
@pytest.mark.parametrize("word", ["parquet", "xlsx"])
def test_a_full_disk_is_named_whatever_error_the_library_makes_of_it(work: Path, word: str) -> None:
    (work / TABLE_FORMATS[word].file).symlink_to("/dev/full")
    with (
        pytest.raises(RuntimeEnvironmentError, match="No space left on device; free space on the disk"),
        writing(work),
    ):
        finish_tables(work, TableOptions((word,)))


def with_decimal_commas(path: Path, **types: str) -> pyarrow.Table:
    parsing, converting = arrow_csv.ParseOptions(delimiter=";"), arrow_csv.ConvertOptions(decimal_point=",")
    converting.column_types = types
    return arrow_csv.read_csv(path, parse_options=parsing, convert_options=converting)


def test_excel_with_decimal_commas_reads_numbers_as_numbers(work: Path) -> None:
    finish_tables(work, TableOptions(("table",), "semicolon"))
    data = (work / "nuclei.csv").read_bytes()
    assert data.startswith(b"\xef\xbb\xbfimage;scene;")
    assert read_header(data.splitlines()[0]) == NUCLEI[0]
    frame = with_decimal_commas(work / "nuclei.csv", scene="string")
    assert frame.column_names == NUCLEI[0]
    assert frame["image"].to_pylist() == [NUCLEI[1][0], "b.tif"]
    assert frame["scene"].to_pylist() == ["1.5", ""]
    assert frame["area_px"].to_pylist() == [1234.5, 1e9]
    assert frame["intensity_mean:A, \u00fc"].to_pylist() == [-1.25e-05, 1200]
    rows = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), delimiter=";")
    assert list(rows)[1] == [*NUCLEI[1][:5], "1234,5", "", "-1,25e-05"]
    assert with_decimal_commas(work / "images.csv")["reason"].to_pylist() == ["found 1.5, expected 2"]


def test_the_dictionary_of_images_is_complete() -> None:
    for name in IMAGES_COLUMNS:
        column = describe_images_column(name)
        assert column is not None, name
        assert column.meaning
    kinds = {name: describe_images_column(name).kind for name in IMAGES_COLUMNS}  # type: ignore[union-attr]
    assert (kinds["image"], kinds["reason"], kinds["time"], kinds["expected_ap"]) == (str, str, int, float)
    assert describe_images_column("unknown") is None


def save_workbook(path: Path) -> None:
    openpyxl.load_workbook(path).save(path)


def save_parquet(path: Path) -> None:
    table = parquet.read_table(path)
    parquet.write_table(table.replace_schema_metadata(None), path)


@pytest.mark.parametrize(("word", "save_again"), [("xlsx", save_workbook), ("parquet", save_parquet)])
def test_what_somebody_saved_is_theirs(work: Path, word: str, save_again: Callable[[Path], None]) -> None:
    options, path = TableOptions(("table", word)), work / f"nuclei.{word}"
    finish_tables(work, options)
    refuse_foreign_files(work, options)
    save_again(path)
    with pytest.raises(ResultsExistError, match=rf"nuclei\.{word}: is in the way"):
        refuse_foreign_files(work, options)
    refuse_foreign_files(work, TableOptions())  # nothing would be written over it
    table_formats.remove_other_formats(work, ("nuclei.csv", "images.csv"))
    assert path.exists()


def test_what_a_run_wrote_in_another_format_is_removed(work: Path) -> None:
    finish_tables(work, TableOptions(("table", "parquet", "xlsx")))
    table_formats.remove_other_formats(work, ("nuclei.csv", "images.csv"))
    assert {path.name for path in work.iterdir()} == {"nuclei.csv", "images.csv"}


@pytest.mark.parametrize("content", [b"", b"\0" * 4096])
def test_what_a_power_cut_left_is_replaced(tmp_path: Path, content: bytes) -> None:
    for name in ("nuclei.xlsx", "nuclei.parquet"):
        (tmp_path / name).write_bytes(content)
    refuse_foreign_files(tmp_path, TableOptions(("parquet", "xlsx")))


@pytest.mark.parametrize("name", ["nuclei.xlsx", "nuclei.parquet"])
def test_another_file_of_the_name_is_in_the_way(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / name, "w") as file:
        file.writestr("mine.txt", "mine")
    with pytest.raises(ResultsExistError, match="move it away"):
        refuse_foreign_files(tmp_path, TableOptions(("parquet", "xlsx")))
