"""What a results folder holds, and what is never touched in one."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from nuclei_runtime.errors import ResultsExistError, RuntimeEnvironmentError
from nuclei_runtime.inputs import ImageFile
from nuclei_runtime.overlay import OUTLINE_RGB, draw_overlay
from nuclei_runtime.results import ResultWriter
from nuclei_runtime.tables import IMAGES_COLUMNS, NUCLEI_COLUMNS


def file_named(name: str) -> ImageFile:
    return ImageFile(Path(name), name, str(Path(name).with_suffix("").as_posix()))


def two_nuclei() -> np.ndarray:
    labels = np.zeros((40, 50), np.int32)
    labels[5:10, 20:30] = 1
    labels[30:36, 2:10] = 2
    return labels


def write(out: Path, *names: str, labels: np.ndarray | None = None, overwrite: bool = False) -> None:
    files = [file_named(name) for name in names]
    labels = two_nuclei() if labels is None else labels
    with ResultWriter(out, files, overwrite=overwrite) as writer:
        for file in files:
            writer.write(file, np.full(labels.shape, 7, np.uint8), labels)


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_each_image_gets_labels_an_overlay_and_rows(tmp_path: Path) -> None:
    write(tmp_path / "out", "a.png", "plate 1/ü.tif")
    assert sorted(contents(tmp_path / "out")) == [
        "images.csv",
        "labels/a.tif",
        "labels/plate 1/ü.tif",
        "nuclei.csv",
        "overlays/a.png",
        "overlays/plate 1/ü.png",
    ]
    labels = tifffile.imread(tmp_path / "out/labels/plate 1/ü.tif")
    assert labels.dtype == np.uint16
    np.testing.assert_array_equal(labels, two_nuclei())
    images = read_table(tmp_path / "out/images.csv")
    assert [row["image"] for row in images] == ["a.png", "plate 1/ü.tif"]
    assert images[1] == {
        "image": "plate 1/ü.tif",
        "status": "ok",
        "n_nuclei": "2",
        "height": "40",
        "width": "50",
        "nuclei_per_megapixel": "1000",
        "reason": "",
        "labels": "labels/plate 1/ü.tif",
    }
    assert [(row["image"], row["label"]) for row in read_table(tmp_path / "out/nuclei.csv")] == [
        ("a.png", "1"),
        ("a.png", "2"),
        ("plate 1/ü.tif", "1"),
        ("plate 1/ü.tif", "2"),
    ]


def test_a_nucleus_is_measured_in_the_files_own_units(tmp_path: Path) -> None:
    image = np.zeros((40, 50, 4), np.uint16)
    image[..., 3] = 65_535  # alpha is no intensity
    image[5:10, 20:30, :3] = (300, 600, 900)
    image[5, 20, :3] = (0, 0, 0)
    file = file_named("a.tif")
    with ResultWriter(tmp_path, [file]) as writer:
        writer.write(file, image, two_nuclei())
    row = read_table(tmp_path / "nuclei.csv")[0]
    assert tuple(row) == NUCLEI_COLUMNS
    expected = {
        "area": 50,
        "centroid-0": 7,
        "centroid-1": 24.5,
        "bbox-0": 5,
        "bbox-1": 20,
        "bbox-2": 10,
        "bbox-3": 30,
        "orientation": np.pi / 2,  # the longer axis lies along the columns
        "equivalent_diameter_area": np.sqrt(4 * 50 / np.pi),
        "intensity_mean": 600 * 49 / 50,
        "intensity_max": 600,
        "intensity_min": 0,
    }
    assert {key: float(row[key]) for key in expected} == pytest.approx(expected, rel=1e-6)


def test_without_nuclei_there_are_labels_and_headers(tmp_path: Path) -> None:
    write(tmp_path, "a.png", labels=np.zeros((8, 9), np.int32))
    labels = tifffile.imread(tmp_path / "labels/a.tif")
    assert labels.shape == (8, 9)
    assert not labels.any()
    assert (tmp_path / "nuclei.csv").read_text(encoding="utf-8").splitlines() == [",".join(NUCLEI_COLUMNS)]
    assert read_table(tmp_path / "images.csv")[0]["n_nuclei"] == "0"


@pytest.mark.parametrize(("n_nuclei", "dtype"), [(65_535, np.uint16), (65_536, np.uint32)])
def test_labels_are_32_bits_deep_only_where_16_do_not_hold_them(tmp_path: Path, n_nuclei: int, dtype: type) -> None:
    from nuclei_runtime.results import _tiff_bytes  # through the writer, so many nuclei would be measured one by one

    labels = np.zeros((257, 257), np.int32)
    labels.ravel()[:n_nuclei] = np.arange(1, n_nuclei + 1)
    (tmp_path / "labels.tif").write_bytes(_tiff_bytes(labels))
    read = tifffile.imread(tmp_path / "labels.tif")
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, labels)


def test_equal_images_give_equal_bytes(tmp_path: Path) -> None:
    write(tmp_path / "one", "a.png")
    write(tmp_path / "two", "a.png")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    with tifffile.TiffFile(tmp_path / "one/labels/a.tif") as tiff:
        assert not {"DateTime", "Software", "ImageDescription"} & {tag.name for tag in tiff.pages.first.tags}
        assert tiff.pages.first.compression.name == "ADOBE_DEFLATE"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_a_files_name_cannot_become_a_formula(tmp_path: Path, start: str) -> None:
    file = ImageFile(Path("x.png"), f'{start}cmd|"x", a.png', "x")
    with ResultWriter(tmp_path, [file]) as writer:
        writer.write(file, np.zeros((40, 50)), two_nuclei())
    for table in ("images.csv", "nuclei.csv"):
        assert read_table(tmp_path / table)[0]["image"] == "'" + file.name


def test_a_negative_measure_stays_a_number(tmp_path: Path) -> None:
    file = file_named("a.tif")
    with ResultWriter(tmp_path, [file]) as writer:
        writer.write(file, np.full((40, 50), -2.5, np.float32), two_nuclei())
    assert float(read_table(tmp_path / "nuclei.csv")[0]["intensity_mean"]) == -2.5


def test_a_failed_image_is_noted(tmp_path: Path) -> None:
    file = file_named("a.png")
    with ResultWriter(tmp_path, [file]) as writer:
        writer.fail(file, "the file is empty, and\nmore")
    (row,) = read_table(tmp_path / "images.csv")
    assert tuple(row) == IMAGES_COLUMNS
    assert (row["status"], row["reason"], row["n_nuclei"]) == ("failed", "the file is empty, and\nmore", "")


@pytest.mark.parametrize("left", ["nuclei.csv", "images.csv", "labels/a.tif", "overlays/x/y.png"])
def test_a_folder_with_results_is_refused(tmp_path: Path, left: str) -> None:
    (tmp_path / left).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / left).write_text("kept")
    with pytest.raises(ResultsExistError, match="--overwrite"):
        ResultWriter(tmp_path, [file_named("b.png")])
    assert contents(tmp_path) == {left: b"kept"}


def test_a_folder_with_other_things_and_empty_folders_is_fine(tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    write(tmp_path, "a.png")
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(ResultsExistError, match="is a file"):
        ResultWriter(tmp_path / "out", [])
    assert (tmp_path / "out").read_text() == "mine"


def test_overwrite_removes_what_the_earlier_run_wrote_and_nothing_else(tmp_path: Path) -> None:
    write(tmp_path, "a.png", "old/b.png", "mixed/c.png")
    mine = {"labels/mixed/mine.tif": b"1", "overlays/mine.png": b"2", "notes.txt": b"3"}
    for name, content in mine.items():
        (tmp_path / name).write_bytes(content)
    write(tmp_path, "a.png", "d.png", overwrite=True)
    left = contents(tmp_path)
    assert {name: left.pop(name) for name in mine} == mine
    assert sorted(left) == [
        "images.csv",
        "labels/a.tif",
        "labels/d.tif",
        "nuclei.csv",
        "overlays/a.png",
        "overlays/d.png",
    ]
    assert not (tmp_path / "labels/old").exists()
    assert [row["image"] for row in read_table(tmp_path / "images.csv")] == ["a.png", "d.png"]


def test_overwrite_does_not_replace_the_users_own_labels(tmp_path: Path) -> None:
    write(tmp_path, "b.png")
    (tmp_path / "labels/a.tif").write_bytes(b"drawn by hand")
    before = contents(tmp_path)
    with pytest.raises(ResultsExistError, match=r"a\.tif.*no earlier run wrote it"):
        write(tmp_path, "a.png", "b.png", overwrite=True)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("table", ["images.csv", "nuclei.csv"])
def test_overwrite_does_not_replace_the_users_own_table(tmp_path: Path, table: str) -> None:
    (tmp_path / table).write_text("image_id,split\n1,train\n")
    with pytest.raises(ResultsExistError, match="no earlier run wrote it"):
        write(tmp_path, "a.png", overwrite=True)
    assert list(contents(tmp_path)) == [table]


@pytest.mark.parametrize("cell", ["../victim.tif", "labels/../../victim.tif", "{root}/victim.tif", "labels", ""])
def test_overwrite_stays_inside_its_folders(tmp_path: Path, cell: str) -> None:
    (tmp_path / "victim.tif").write_text("kept")
    out = tmp_path / "out"
    write(out, "a.png")
    row = ",".join(["a.png", "ok", "", "", "", "", "", cell.format(root=tmp_path)])
    (out / "images.csv").write_text(",".join(IMAGES_COLUMNS) + "\n" + row + "\nb.png,ok\n")
    write(out, "c.png", overwrite=True)
    assert (tmp_path / "victim.tif").read_text() == "kept"
    assert (out / "labels/a.tif").exists()  # no table named it any more


def test_what_cannot_be_written_stops_the_run_and_leaves_what_was_done(tmp_path: Path) -> None:
    files = [file_named("a.png"), file_named("sub/b.png")]
    with ResultWriter(tmp_path, files) as writer:
        writer.write(files[0], np.zeros((40, 50)), two_nuclei())
        (tmp_path / "overlays/sub").write_text("a file in the way of a folder")
        with pytest.raises(RuntimeEnvironmentError, match="cannot be written"):
            writer.write(files[1], np.zeros((40, 50)), two_nuclei())
    assert [row["image"] for row in read_table(tmp_path / "images.csv")] == ["a.png"]
    assert [path.name for path in (tmp_path / "labels").rglob("*.tif")] == ["a.tif"]


def test_no_half_file_is_left_under_another_name(tmp_path: Path) -> None:
    write(tmp_path, "a.png", "s/b.png")
    assert not [name for name in contents(tmp_path) if "partial" in name]


@pytest.mark.parametrize("background", [0, 255], ids=["dark field", "bright field"])
@pytest.mark.parametrize("channels", [None, 1, 3, 4])
def test_the_outline_stands_out_on_dark_and_on_bright(background: int, channels: int | None) -> None:
    labels = two_nuclei()
    image = np.where(labels > 0, 255 - background, background).astype(np.uint8)
    image = image if channels is None else np.repeat(image[..., np.newaxis], channels, axis=-1)
    picture = draw_overlay(image, labels).astype(int)
    assert picture.shape == (40, 50, 3)
    edge = (picture == OUTLINE_RGB).all(axis=-1)
    assert edge[5, 20:30].all()  # one pixel wide, inside the nucleus
    assert edge[5:10, 20].all()
    assert not edge[6:9, 21:29].any()
    assert not edge[labels == 0].any()
    # Beside the line, inside and outside, something differs from it by at least half the range in some channel.
    for row, column in ((7, 19), (7, 21)):
        assert np.abs(picture[row, column] - OUTLINE_RGB).max() > 127
    assert (picture[0, 0] == background).all()


def test_the_overlay_stretches_the_contrast(tmp_path: Path) -> None:
    file = file_named("a.tif")
    image = np.full((40, 50), 100, np.uint16)
    image[two_nuclei() > 0] = 4095  # 12 bits in 16
    with ResultWriter(tmp_path, [file]) as writer:
        writer.write(file, image, two_nuclei())
    picture = np.asarray(Image.open(tmp_path / "overlays/a.png"))
    assert picture[0, 0].tolist() == [0, 0, 0]
    assert picture[7, 25].tolist() == [255, 255, 255]
