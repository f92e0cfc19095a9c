"""The split table next to the data."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from nuclei_train.data.opening import open_with_splits
from nuclei_train.data.pack import pack
from nuclei_train.data.split_table import read_split_table
from nuclei_train.errors import DatasetError


def nothing(*_: object) -> None:
    pass


TABLE = "image_id,height,modality,split\na,1,fluorescence,train\nb,1,brightfield_grey,val\n"


@pytest.mark.parametrize("next_to", [True, False])
@pytest.mark.parametrize("is_zip", [True, False])
def test_the_table_is_in_the_folder_or_next_to_the_data(tmp_path: Path, next_to: bool, is_zip: bool) -> None:
    data = tmp_path / "data"
    data.mkdir()
    place = tmp_path if next_to else data
    (place / "splits.csv").write_text(TABLE, encoding="utf-8")
    table = read_split_table(place / "x.zip" if is_zip else data)
    assert table is not None
    assert table.split == {"a": "train", "b": "val"}
    assert table.modality == {"a": "fluorescence", "b": "brightfield_grey"}
    assert len(table.digest) == 64


def test_the_current_folder_has_a_parent_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "splits.csv").write_text(TABLE, encoding="utf-8")
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path / "data")
    assert read_split_table(Path()) is not None


@pytest.mark.parametrize("other", ["data", ""])
def test_the_former_name_counts_only_without_the_present_one(tmp_path: Path, other: str) -> None:
    """Wherever the two tables are."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "images.csv").write_text(TABLE, encoding="utf-8")
    table = read_split_table(data)
    assert table is not None
    assert table.path == data.resolve() / "images.csv"
    (tmp_path / other / "splits.csv").write_text(TABLE.replace("train", "test"), encoding="utf-8")
    table = read_split_table(data)
    assert table is not None
    assert table.split == {"a": "test", "b": "val"}


def test_the_former_name_is_mentioned_and_the_present_one_is_not(
    tmp_path: Path, make_dsb_zip: Callable[..., Path]
) -> None:
    make_dsb_zip(tmp_path / "stage1_train.zip", [0])
    former = tmp_path / "images.csv"
    former.write_text("image_id,split,modality\nfield_000,train,\n", encoding="utf-8")
    sentences: list[str] = []
    _, table = open_with_splits(tmp_path, sentences.append)
    assert table == read_split_table(tmp_path)
    assert sentences == [f"{former.resolve()}: used as the split table, whose name is now splits.csv"]
    former.rename(tmp_path / "splits.csv")
    open_with_splits(tmp_path, sentences.append)
    assert len(sentences) == 1


def test_a_table_from_a_spreadsheet_is_read(tmp_path: Path) -> None:
    (tmp_path / "splits.csv").write_text(TABLE.replace("\n", "\r\n"), encoding="utf-8-sig")
    table = read_split_table(tmp_path)
    assert table is not None
    assert table.split == {"a": "train", "b": "val"}


def test_blanks_and_capitals_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "splits.csv").write_text("image_id,split,modality\n a,Train, x\nb ,VAL ,\n", encoding="utf-8")
    table = read_split_table(tmp_path)
    assert table is not None
    assert table.split == {"a": "train", "b": "val"}
    assert table.modality == {"a": "x", "b": ""}


@pytest.mark.parametrize(
    "content", [None, "image_id,modality,split\na,,\nb,fluorescence,\n", "image_id,split,modality\na\n"]
)
def test_without_a_split_there_is_no_table(tmp_path: Path, content: str | None) -> None:
    (tmp_path / "data").mkdir()
    if content is not None:
        (tmp_path / "data" / "splits.csv").write_text(content, encoding="utf-8")
    assert read_split_table(tmp_path / "data") is None


def test_the_table_in_a_pack_counts_wherever_the_pack_lies(tmp_path: Path, make_dsb_zip: Callable[..., Path]) -> None:
    (tmp_path / "data").mkdir()
    make_dsb_zip(tmp_path / "data" / "stage1_train.zip", range(3))
    table = "image_id,modality,split\nfield_000,,train\nfield_001,,val\nfield_002,,train\n"
    (tmp_path / "data" / "splits.csv").write_text(table, encoding="utf-8")
    folder = tmp_path / "holder"
    folder.mkdir()
    pack([tmp_path / "data"], folder / "one.zip", nothing, nothing)
    (folder / "splits.csv").write_text(table.replace("train", "test"), encoding="utf-8")
    for data in (folder, folder / "one.zip"):
        found = read_split_table(data)
        assert found is not None
        assert found.split == {"field_000": "train", "field_001": "val", "field_002": "train"}
    shutil.copy(folder / "one.zip", folder / "two.zip")
    with pytest.raises(
        DatasetError, match=r"one\.zip/splits\.csv and .*two\.zip/splits\.csv, expected one split table"
    ):
        read_split_table(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"image_id,split\na,train\n", "'image_id,split', lacks modality; add"),
        (b"image_id;split;modality\na;train;\n", "the first line, 'image_id;split;modality', lacks image_id, "),
        (b"", "lacks image_id, modality, split; add"),
        (b"\xff\xfe\x00\x01", "cannot be read as a split table"),
        (TABLE.encode() + b"a,1,fluorescence,val\n", "a is in the splits 'train' and 'val'"),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "splits.csv").write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        read_split_table(tmp_path)
