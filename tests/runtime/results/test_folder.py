"""What a results folder contains, and which files in it are never touched."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event
from time import sleep
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from nuclei_runtime.errors import InputsError, NucleiError, ResultsExistError, RuntimeEnvironmentError
from nuclei_runtime.readers.plane import plane_of
from nuclei_runtime.results.conditions import Conditions
from nuclei_runtime.results.differing import Differing, differing_results
from nuclei_runtime.results.folder import Mode, ResultsFolder
from nuclei_runtime.results.joined_tables import refuse_foreign_tables
from nuclei_runtime.results.layout import is_own_report, result_path, token_of
from nuclei_runtime.results.outcome import IMAGES_COLUMNS, PlaneOutcome, Segmented, segmented
from nuclei_runtime.results.read_tables import read_rows
from nuclei_runtime.results.records import FileDigest, Record, digest_file, record_of
from nuclei_runtime.results.shard import WHOLE, Shard
from nuclei_runtime.results.table_formats import TableOptions
from nuclei_runtime.results.writing import move, writing
from nuclei_runtime.runs.inputs import ImageFile
from nuclei_runtime.segmentation.blocks import Block
from nuclei_runtime.steps.nuclei_table import measure_nuclei
from nuclei_runtime.writers.csv_style import CsvStyle
from nuclei_runtime.writers.outputs import LABELS, OutputOptions
from nuclei_runtime.writers.overlay_png import OUTLINE_RGB, draw_overlay
from nuclei_runtime.writers.plane_files import write_plane_files
from tests.contents import contents, read_table


def file_named(name: str) -> ImageFile:
    return ImageFile(Path(name), name, str(Path(name).with_suffix("").as_posix()))


def two_nuclei() -> np.ndarray:
    labels = np.zeros((40, 50), np.int32)
    labels[5:10, 20:30] = 1
    labels[30:36, 2:10] = 2
    return labels


def add(results: ResultsFolder, name: str, image: np.ndarray | None = None, labels: np.ndarray | None = None) -> None:
    """Write an image's results as a run does."""
    labels = two_nuclei() if labels is None else labels
    image = np.full(labels.shape, 7, np.uint8) if image is None else image
    file = file_named(name)
    with results.store.workspace(name) as work:
        paths = {output: work / f"0-{output.folder}{output.ending}" for output in OutputOptions().outputs}
        block = Block(slice(0, labels.shape[0]), slice(0, labels.shape[1]), image, labels)
        with writing(work):
            written = write_plane_files(name, plane_of(image), [block], paths)
        made = {result_path(output, file.stem): path for output, path in paths.items()}
        digests = {target: digest_file(path).sha256 for target, path in made.items()}
        outcome = segmented(name, Segmented(plane_of(image), written), result_path(LABELS, file.stem))
        results.store.place(Record(name, file.stem, "key", FileDigest("0", 1), (outcome,), digests), made, work)


@contextmanager
def opened(out: Path, mode: Mode = "new", shard: Shard = WHOLE) -> Iterator[ResultsFolder]:
    results = ResultsFolder(out, mode, shard)
    results.write_provenance("{}")
    yield results
    results.close()


@contextmanager
def open_conditioned(out: Path, mode: Mode, conditions: Conditions | None, style: CsvStyle) -> Iterator[ResultsFolder]:
    results = ResultsFolder(out, mode, tables=TableOptions(csv_style=style), conditions=conditions)
    results.write_provenance("{}")
    yield results
    results.close()


def write(out: Path, *names: str, mode: Mode = "new") -> None:
    with opened(out, mode) as results:
        for name in names:
            add(results, name)
        results.join(names, "key")


def link(path: Path, target: Path) -> None:
    try:
        path.symlink_to(target, target_is_directory=target.is_dir())
    except OSError as error:
        pytest.skip(f"NOT RUN: this system makes no links: {error}")


def results_of(*stems: str) -> list[str]:
    endings = {"labels": ".tif", "original_labels": ".tif", "overlays": ".png", "tables": ".csv"}
    return [f"{folder}/{stem}{ending}" for folder, ending in endings.items() for stem in stems]


def test_each_image_gets_labels_an_overlay_a_table_and_a_record(tmp_path: Path) -> None:
    write(tmp_path / "out", "a.png", "plate 1/ü.tif")
    records = [f"records/{token_of(name)}.json" for name in ("a.png", "plate 1/ü.tif")]
    whole = [*results_of("a", "plate 1/ü"), *records, "images.csv", "nuclei.csv", "provenance.json", "summary.csv"]
    assert sorted(contents(tmp_path / "out")) == sorted(whole)
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.name[0] == ".") == []
    labels = tifffile.imread(tmp_path / "out/labels/plate 1/ü.tif")
    assert labels.dtype == np.uint16
    np.testing.assert_array_equal(labels, two_nuclei())
    images = read_table(tmp_path / "out/images.csv")
    assert tuple(images[0]) == IMAGES_COLUMNS
    assert [(row["image"], row["labels"]) for row in images] == [
        ("a.png", "labels/a.tif"),
        ("plate 1/ü.tif", "labels/plate 1/ü.tif"),
    ]
    assert [(row["image"], row["label"]) for row in read_table(tmp_path / "out/nuclei.csv")] == [
        ("a.png", "1"),
        ("a.png", "2"),
        ("plate 1/ü.tif", "1"),
        ("plate 1/ü.tif", "2"),
    ]


def test_a_nucleus_is_measured_in_the_files_own_units(tmp_path: Path) -> None:
    image = np.zeros((40, 50, 4), np.uint16)
    image[..., 3] = 65_535  # alpha is not an intensity
    image[5:10, 20:30, :3] = (300, 600, 900)
    image[5, 20, :3] = (0, 0, 0)
    with opened(tmp_path) as results:
        add(results, "a.tif", image)
        results.join(["a.tif"], "key")
    row = read_table(tmp_path / "nuclei.csv")[0]
    assert (row["image"], row["label"], row["touches_border"]) == ("a.tif", "1", "false")
    expected = {
        "area_px": 50,
        "centroid_row_px": 7,
        "centroid_column_px": 24.5,
        "bbox_top_px": 5,
        "bbox_left_px": 20,
        "bbox_bottom_px": 10,
        "bbox_right_px": 30,
        "orientation_rad": np.pi / 2,  # the longer axis lies along the columns
        "equivalent_diameter_px": np.sqrt(4 * 50 / np.pi),
        "solidity": 1,
        "intensity_mean": 600 * 49 / 50,
        "intensity_sum": 600 * 49,
        "intensity_max": 600,
        "intensity_min": 0,
        "intensity_sd": 600 * np.sqrt(49) / 50,
    }
    assert {key: float(row[key]) for key in expected} == pytest.approx(expected, rel=1e-6)


def test_without_nuclei_there_are_labels_and_headers(tmp_path: Path) -> None:
    with opened(tmp_path) as results:
        add(results, "a.png", labels=np.zeros((8, 9), np.int32))
        results.join(["a.png"], "key")
    labels = tifffile.imread(tmp_path / "labels/a.tif")
    assert labels.shape == (8, 9)
    assert not labels.any()
    table = measure_nuclei(two_nuclei(), two_nuclei())
    assert (tmp_path / "nuclei.csv").read_text(encoding="utf-8").splitlines() == [",".join(["image", *table])]
    assert read_table(tmp_path / "images.csv")[0]["n_nuclei"] == "0"


def test_equal_images_give_equal_bytes(tmp_path: Path) -> None:
    write(tmp_path / "one", "a.png")
    write(tmp_path / "two", "a.png")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    with tifffile.TiffFile(tmp_path / "one/labels/a.tif") as tiff:
        assert not {"DateTime", "Software", "ImageDescription"} & {tag.name for tag in tiff.pages.first.tags}


@pytest.mark.parametrize("left", ["nuclei.csv", "images.csv", "labels/a.tif", "overlays/x/y.png", "records/x.json"])
def test_a_folder_with_results_is_refused(tmp_path: Path, left: str) -> None:
    (tmp_path / left).parent.mkdir(parents=True, exist_ok=True)
    columns = {"nuclei.csv": ("image", "label", "area_px"), "images.csv": IMAGES_COLUMNS}.get(left, ("kept",))
    (tmp_path / left).write_text(",".join(columns))
    before = contents(tmp_path)
    with pytest.raises(ResultsExistError, match="--overwrite"):
        ResultsFolder(tmp_path)
    assert contents(tmp_path) == before


def test_a_folder_with_other_things_and_empty_folders_is_fine(tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    write(tmp_path, "a.png")
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(ResultsExistError, match="out: a file"):
        ResultsFolder(tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


def test_overwrite_removes_what_the_earlier_run_wrote_and_nothing_else(tmp_path: Path) -> None:
    write(tmp_path, "a.png", "old/b.png", "mixed/c.png")
    mine = {"labels/mixed/mine.tif": b"1", "overlays/mine.png": b"2", "notes.txt": b"3"}
    for name, content in mine.items():
        (tmp_path / name).write_bytes(content)
    write(tmp_path, "a.png", "d.png", mode="overwrite")
    left = contents(tmp_path)
    assert {name: left.pop(name) for name in mine} == mine
    assert {name for name in left if not name.startswith("records/")} == {
        *results_of("a", "d"),
        "images.csv",
        "nuclei.csv",
        "provenance.json",
        "summary.csv",
    }
    assert not (tmp_path / "labels/old").exists()
    assert [row["image"] for row in read_table(tmp_path / "images.csv")] == ["a.png", "d.png"]


@pytest.mark.parametrize("mode", ["resume", "overwrite"])
def test_the_users_own_labels_stay_and_their_image_fails(tmp_path: Path, mode: Mode) -> None:
    write(tmp_path, "b.png")
    (tmp_path / "labels/a.tif").write_bytes(b"drawn by hand")
    with opened(tmp_path, mode) as results, pytest.raises(ResultsExistError, match=r"a\.tif: is in the way"):
        add(results, "a.png")
    assert (tmp_path / "labels/a.tif").read_bytes() == b"drawn by hand"
    assert not (tmp_path / "overlays/a.png").exists()


@pytest.mark.parametrize("mode", ["new", "resume", "overwrite"])
@pytest.mark.parametrize("table", ["images.csv", "nuclei.csv"])
def test_the_users_own_table_is_never_replaced(tmp_path: Path, table: str, mode: Mode) -> None:
    (tmp_path / table).write_text("image_id,split\n1,train\n")
    with pytest.raises(ResultsExistError, match="in the way"):
        ResultsFolder(tmp_path, mode)
    assert list(contents(tmp_path)) == [table]


@pytest.mark.parametrize(
    "path", ["../victim.tif", "labels/../../victim.tif", "{root}/victim.tif", "labels", "", "labels/l/victim.tif"]
)
def test_a_record_that_someone_forged_removes_nothing_outside(tmp_path: Path, path: str) -> None:
    (tmp_path / "victim.tif").write_text("kept")
    out = tmp_path / "out"
    write(out, "a.png")
    link(out / "labels/l", tmp_path)
    record = out / "records" / f"{token_of('a.png')}.json"
    forged = record.read_text().replace('"labels/a.tif": ', f'"{path.format(root=tmp_path.as_posix())}": ')
    assert forged != record.read_text()
    record.write_text(forged)
    write(out, "c.png", mode="overwrite")
    assert (tmp_path / "victim.tif").read_text() == "kept"


@pytest.mark.parametrize("folder", ["labels", "overlays", "tables", "records", ".nuclei-partial"])
def test_nothing_is_written_through_a_folder_that_is_a_link_out(tmp_path: Path, folder: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    link(tmp_path / "out" / folder, tmp_path / "elsewhere")
    with pytest.raises(ResultsExistError, match="link"):
        ResultsFolder(tmp_path / "out", "resume")
    assert contents(tmp_path) == {}


def test_nothing_is_written_through_links_below_the_folders_either(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "victim.tif").write_text("kept")
    with opened(tmp_path / "out") as results:
        (tmp_path / "out/labels").mkdir()
        link(tmp_path / "out/labels/plate", tmp_path / "elsewhere")
        link(tmp_path / "out/labels/b.tif", tmp_path / "victim.tif")
        with pytest.raises(ResultsExistError, match="link"):
            add(results, "plate/a.png")
        with pytest.raises(ResultsExistError, match="in the way"):
            add(results, "b.png")
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert (tmp_path / "victim.tif").read_text() == "kept"


def test_a_link_that_took_a_results_place_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim.tif").write_text("kept")
    write(tmp_path / "out", "a.png")
    (tmp_path / "out/labels/a.tif").unlink()
    link(tmp_path / "out/labels/a.tif", tmp_path / "victim.tif")
    write(tmp_path / "out", "a.png", mode="resume")
    assert not (tmp_path / "out/labels/a.tif").is_symlink()
    assert (tmp_path / "victim.tif").read_text() == "kept"


def kill_while_placing(out: Path, name: str, keep_record: bool) -> None:
    """Leave the files of a process that is killed after it has moved one of an image's results into place."""
    with opened(out, "resume") as results:
        once = Path.replace

        def replace_one(self: Path, target: Path) -> Path:
            if target.suffix == ".png":
                raise SystemExit
            return once(self, target)

        import shutil

        rmtree, unlink = shutil.rmtree, Path.unlink
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Path, "replace", replace_one)
            patch.setattr(shutil, "rmtree", lambda *_, **__: None)
            patch.setattr(Path, "unlink", lambda *_, **__: None)
            with pytest.raises(SystemExit):
                add(results, name, labels=two_nuclei()[::-1].copy())
        assert (shutil.rmtree, Path.unlink) == (rmtree, unlink)
    (work,) = (out / ".nuclei-partial").iterdir()
    assert (work / "record.json").is_file()
    if not keep_record:
        (work / "record.json").unlink()


def test_what_a_killed_run_put_in_place_is_removed(tmp_path: Path) -> None:
    write(tmp_path, "a.png")
    before = contents(tmp_path)
    kill_while_placing(tmp_path, "b.png", keep_record=True)
    assert (tmp_path / "labels/b.tif").is_file()
    with opened(tmp_path, "resume"):
        assert not (tmp_path / "labels/b.tif").exists()
    assert contents(tmp_path) == before
    assert not (tmp_path / ".nuclei-partial").exists()


def test_what_a_killed_run_put_in_the_place_of_an_earlier_result_is_no_change_of_the_users(tmp_path: Path) -> None:
    """Otherwise the image would never be done again."""
    write(tmp_path, "a.png")
    kill_while_placing(tmp_path, "a.png", keep_record=True)
    with opened(tmp_path, "resume"):
        pass
    record = record_of(tmp_path, "a.png")
    assert record is not None
    assert differing_results(tmp_path, record) == Differing(damaged=("labels/a.tif", "original_labels/a.tif"))


def test_what_the_user_put_there_since_is_not_removed(tmp_path: Path) -> None:
    write(tmp_path, "a.png")
    kill_while_placing(tmp_path, "b.png", keep_record=True)
    (tmp_path / "labels/b.tif").write_bytes(b"drawn by hand")
    with opened(tmp_path, "resume"):
        assert (tmp_path / "labels/b.tif").read_bytes() == b"drawn by hand"


def test_leftovers_of_another_share_are_left_to_it(tmp_path: Path) -> None:
    kill_while_placing(tmp_path, "b.png", keep_record=True)
    owner, other = sorted((Shard(1, 2), Shard(2, 2)), key=lambda shard: not shard.owns(token_of("b.png")))
    with opened(tmp_path, "resume", other):
        assert (tmp_path / "labels/b.tif").is_file()
        assert [path.is_dir() for path in (tmp_path / ".nuclei-partial").iterdir()] == [True]
    with opened(tmp_path, "resume", owner):
        assert not (tmp_path / "labels/b.tif").exists()


def test_a_damaged_record_does_not_stand_in_the_way(tmp_path: Path) -> None:
    """After a power cut, a file may be empty."""
    write(tmp_path, "a.png")
    before = contents(tmp_path)
    (tmp_path / "records" / f"{token_of('a.png')}.json").write_bytes(b"")
    (tmp_path / "labels/a.tif").write_bytes(b"")
    write(tmp_path, "a.png", mode="resume")
    assert contents(tmp_path) == before


def test_an_image_whose_record_is_damaged_is_said_to_be_missing_from_the_tables(tmp_path: Path) -> None:
    with opened(tmp_path) as results:
        for name in ("a.png", "b.png"):
            add(results, name)
        (tmp_path / "records" / f"{token_of('a.png')}.json").write_bytes(b"{}")
        joined = results.join(["a.png", "b.png", "not_begun.png"], "key")
    assert joined is not None
    assert joined.notes == (
        "note: a.png: not in images.csv and nuclei.csv because its table or its record is missing or damaged; "
        "segment it again with --resume",
    )
    assert [row["image"] for row in read_table(tmp_path / "images.csv")] == ["b.png"]


@pytest.mark.parametrize("left", [b"", bytes(200_000)], ids=["empty", "zeros"])
def test_tables_that_a_power_cut_left_empty_are_written_again(tmp_path: Path, left: bytes) -> None:
    write(tmp_path, "a.png")
    before = contents(tmp_path)
    for name in ("images.csv", "nuclei.csv"):
        (tmp_path / name).write_bytes(left)
    write(tmp_path, "a.png", mode="resume")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("mode", ["resume", "overwrite"])
def test_a_folder_without_its_provenance_is_continued(tmp_path: Path, mode: Mode) -> None:
    write(tmp_path, "a.png")
    before = contents(tmp_path)
    (tmp_path / "provenance.json").unlink()
    write(tmp_path, "a.png", mode=mode)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("style", ["comma", "semicolon"])
def test_the_tables_alone_show_that_they_are_of_a_run(tmp_path: Path, style: CsvStyle) -> None:
    conditions = Conditions("table.csv", "image", {"a.png": "drug"}, {})
    with open_conditioned(tmp_path, "new", conditions, style) as results:
        add(results, "a.png")
        results.join(["a.png"], "key")
    assert {path.name for path in tmp_path.glob("*.csv")} == {"images.csv", "nuclei.csv", "summary.csv"}
    (tmp_path / "provenance.json").unlink()
    shutil.rmtree(tmp_path / "records")
    refuse_foreign_tables(tmp_path)
    (tmp_path / "summary.csv").write_text("group,by,n_images,n_failed,n_nuclei\n")
    with pytest.raises(ResultsExistError, match=r"summary\.csv: is in the way"):
        refuse_foreign_tables(tmp_path)


@pytest.mark.parametrize("style", ["comma", "semicolon"])
def test_conditions_stay_until_others_are_given(tmp_path: Path, style: CsvStyle) -> None:
    given = {"a.png": "=drug", "b.png": "1.5"}
    conditions = Conditions("table.csv", "image", dict(given), {"a.png": "A01", "b.png": "B02"})
    with open_conditioned(tmp_path, "new", conditions, style) as results:
        for name in given:
            add(results, name)
        results.join(given, "key")
    before = contents(tmp_path)
    assert before["summary.csv"].count(b"well") == 2
    with open_conditioned(tmp_path, "resume", None, style) as results:
        joined = results.join(given, "key")
    assert joined is not None
    assert (joined.of_conditions, contents(tmp_path)) == ((), before)
    with open_conditioned(tmp_path, "resume", None, style) as results:
        add(results, "plate/c.png")
        joined = results.join([*given, "plate/c.png"], "key")
    assert joined is not None
    assert joined.of_conditions == ("1 image without a condition in the conditions of the earlier run: plate/c.png",)
    assert [(row["image"], row["condition"], row["well"]) for row in read_rows(tmp_path / "images.csv")] == [
        ("a.png", "'=drug", "A01"),
        ("b.png", "1.5", "B02"),
        ("plate/c.png", "", ""),
    ]
    others = Conditions("table.csv", "image", {"a.png": "control"}, {})
    with open_conditioned(tmp_path, "resume", others, style) as results:
        results.join(given, "key")
    assert [row["condition"] for row in read_rows(tmp_path / "images.csv")] == ["control", "", ""]
    with open_conditioned(tmp_path, "overwrite", None, style) as results:
        add(results, "a.png")
        results.join(["a.png"], "key")
    assert "condition" not in read_rows(tmp_path / "images.csv")[0]


@pytest.mark.parametrize("left", [None, b"", bytes(900)])
def test_conditions_stay_whatever_is_left_of_the_tables(tmp_path: Path, left: bytes | None) -> None:
    """A killed run has written no tables yet, and a power cut may leave blank ones."""
    conditions = Conditions("table.csv", "image", {"a.png": "drug"}, {})
    with open_conditioned(tmp_path, "new", conditions, "comma") as results:
        add(results, "a.png")
    for name in ("images.csv", "nuclei.csv", "summary.csv") if left is not None else ():
        (tmp_path / name).write_bytes(left)
    with open_conditioned(tmp_path, "resume", None, "comma") as results:
        results.join(["a.png"], "key")
    for name in ("images.csv", "nuclei.csv"):
        assert {row["condition"] for row in read_rows(tmp_path / name)} == {"drug"}


def test_damaged_conditions_of_an_earlier_run_stop_the_next_one_before_it_loses_them(tmp_path: Path) -> None:
    conditions = Conditions("table.csv", "image", {"a.png": "drug"}, {})
    with open_conditioned(tmp_path, "new", conditions, "comma") as results:
        add(results, "a.png")
    (tmp_path / "records/conditions.csv").write_bytes(bytes(9))
    with pytest.raises(InputsError, match="it held the conditions of the earlier run: give them with --conditions"):
        ResultsFolder(tmp_path, "resume")
    with open_conditioned(tmp_path, "resume", conditions, "comma") as results:
        joined = results.join(["a.png"], "key")
    assert joined is not None
    assert [row["condition"] for row in read_rows(tmp_path / "images.csv")] == ["drug"]


@pytest.mark.parametrize(("left", "is_own"), [(b"", True), (bytes(9000), True), (b"<html>", False)])
def test_a_report_that_a_power_cut_left_blank_is_not_the_users(tmp_path: Path, left: bytes, is_own: bool) -> None:
    (tmp_path / "report.html").write_bytes(left)
    assert is_own_report(tmp_path / "report.html") is is_own


def test_a_table_of_the_users_is_refused_however_long_its_first_line(tmp_path: Path) -> None:
    write(tmp_path, "a.png")
    (tmp_path / "images.csv").write_bytes(b"x" * 200_000)
    with pytest.raises(ResultsExistError, match="nuclei-infer did not write it"):
        write(tmp_path, "a.png", mode="resume")


def test_what_cannot_be_written_stops_the_run_and_leaves_what_was_done(tmp_path: Path) -> None:
    with opened(tmp_path) as results:
        add(results, "a.png")
        (tmp_path / ".nuclei-partial").rmdir()
        (tmp_path / ".nuclei-partial").write_text("a file in the way of a folder")
        with pytest.raises(RuntimeEnvironmentError, match="cannot be written"):
            add(results, "b.png")
    assert set(results_of("a")) < set(contents(tmp_path))
    assert not set(results_of("b")) & set(contents(tmp_path))


def test_a_name_that_only_one_image_has_trouble_with_is_its_own_failure(tmp_path: Path) -> None:
    with opened(tmp_path) as results:
        (tmp_path / "overlays").mkdir()
        (tmp_path / "overlays/sub").write_text("a file in the way of a folder")
        with pytest.raises(ResultsExistError, match="cannot be written"):
            add(results, "sub/b.png")
        add(results, "a.png")
    assert not (tmp_path / "labels/sub").exists()


def test_a_folder_that_vanishes_is_not_created_again(tmp_path: Path) -> None:
    with opened(tmp_path / "out") as results:
        add(results, "a.png")
        (tmp_path / "out").rename(tmp_path / "unmounted")
        with pytest.raises(RuntimeEnvironmentError, match="cannot be written"):
            add(results, "b.png")
        assert not (tmp_path / "out").exists()
        (tmp_path / "out").mkdir()  # what an unmounted share leaves behind
        with pytest.raises(RuntimeEnvironmentError, match="vanished"):
            add(results, "b.png")
        assert list((tmp_path / "out").iterdir()) == []
    assert set(results_of("a")) < set(contents(tmp_path / "unmounted"))


def test_a_share_that_ends_takes_no_folder_from_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It removes the folder of unfinished results just when the other share is about to create its own in it."""
    mkdir, removed = Path.mkdir, []

    def interrupted(path: Path, *arguments: Any, **options: Any) -> None:
        if path.parent.name == ".nuclei-partial" and not removed:
            path.parent.rmdir()
            removed.append(path)
        mkdir(path, *arguments, **options)

    with opened(tmp_path / "out") as results:
        monkeypatch.setattr(Path, "mkdir", interrupted)
        add(results, "a.png")
    assert removed
    assert set(results_of("a")) <= set(contents(tmp_path / "out"))


def test_a_folder_that_one_worker_empties_and_removes_is_made_again_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Just when the other worker is about to move its own results there."""
    replace, removed = Path.replace, []

    def interrupted(source: Path, target: Path) -> Path:
        if target.parent.name == "plate" and not removed:
            target.parent.rmdir()
            removed.append(target)
        return replace(source, target)

    with opened(tmp_path / "out") as results:
        monkeypatch.setattr(Path, "replace", interrupted)
        add(results, "plate/a.png")
    assert removed
    assert set(results_of("plate/a")) <= set(contents(tmp_path / "out"))


def test_a_folder_that_another_worker_removes_is_made_again(tmp_path: Path) -> None:
    source, folder, is_done = tmp_path / "source", tmp_path / "plate" / "row", Event()

    def remove() -> None:
        while not is_done.is_set():
            with suppress(OSError):
                folder.rmdir()
            sleep(0.0001)  # let the other thread in: if the folder is removed all the time, nothing can be moved

    with ThreadPoolExecutor(1) as pool:
        removing = pool.submit(remove)
        try:
            for _ in range(2000):
                source.write_bytes(b"")
                move(source, folder / "a")
                (folder / "a").unlink()
        finally:
            is_done.set()
        removing.result()


@pytest.mark.parametrize("name", ["plate", "plate/row"])
def test_a_file_in_place_of_a_folder_is_not_replaced(tmp_path: Path, name: str) -> None:
    source, blocking = tmp_path / "source", tmp_path / name
    source.write_bytes(b"")
    blocking.parent.mkdir(exist_ok=True)
    blocking.write_text("mine")
    with pytest.raises((FileExistsError, NotADirectoryError)):
        move(source, tmp_path / "plate" / "row" / "a")
    assert blocking.read_text() == "mine"


def test_workers_that_empty_and_fill_one_folder_do_not_disturb_each_other(tmp_path: Path) -> None:
    with opened(tmp_path / "out") as results:

        def place_and_remove(name: str) -> None:
            for _ in range(30):
                add(results, name)
                with results.store.workspace(name) as work:
                    outcome = PlaneOutcome(name, "failed", reason="it changed")
                    results.store.place(Record(name, "", "key", None, (outcome,), {}), {}, work)
            add(results, name)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(place_and_remove, [f"plate/{letter}.png" for letter in "abcd"]))
    assert set(results_of(*(f"plate/{letter}" for letter in "abcd"))) <= set(contents(tmp_path / "out"))


@contextmanager
def small_disk(folder: Path, options: str) -> Iterator[None]:
    """Mount an in-memory file system on a folder."""
    folder.mkdir(exist_ok=True)
    if os.name != "posix" or subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder]).returncode:
        pytest.skip("NOT RUN: this user may not mount a file system")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_full_disk_stops_the_run_and_leaves_what_was_done(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (200, 300), np.uint8)
    labels = np.zeros(noise.shape, np.int32)
    with small_disk(tmp_path / "out", "size=400k"):
        done: list[str] = []

        def fill(results: ResultsFolder) -> None:
            for number in range(100):
                add(results, f"{number}.png", noise, labels)
                done.append(f"{number}.png")

        with opened(tmp_path / "out") as results:
            with pytest.raises(RuntimeEnvironmentError, match=r"No space left.*--resume"):
                fill(results)
            assert 1 <= len(done) < 100
        left = contents(tmp_path / "out")
        assert set(left) == {
            *results_of(*(name.removesuffix(".png") for name in done)),
            *(f"records/{token_of(name)}.json" for name in done),
            "provenance.json",
        }
        assert not (tmp_path / "out/.nuclei-partial").exists()


def test_a_disk_that_may_only_be_read_is_an_error_before_any_work(tmp_path: Path) -> None:
    with small_disk(tmp_path / "out", "ro"), pytest.raises(RuntimeEnvironmentError, match="Read-only"):
        ResultsFolder(tmp_path / "out").write_provenance("{}")


def test_two_names_that_a_file_system_takes_for_one_do_not_replace_each_other(tmp_path: Path) -> None:
    with opened(tmp_path) as results:
        add(results, "A.png")
        if not (tmp_path / "labels/a.tif").exists():
            pytest.skip("NOT RUN: this file system tells a from A")
        with pytest.raises(NucleiError, match="in the way"):
            add(results, "a.png")


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
    # On both sides of the line, a pixel differs from it by at least half the range in some channel.
    for row, column in ((7, 19), (7, 21)):
        assert np.abs(picture[row, column] - OUTLINE_RGB).max() > 127
    assert (picture[0, 0] == background).all()


def test_the_overlay_stretches_the_contrast(tmp_path: Path) -> None:
    image = np.full((40, 50), 100, np.uint16)
    image[two_nuclei() > 0] = 4095  # 12 bits in 16
    with opened(tmp_path) as results:
        add(results, "a.tif", image)
    picture = np.asarray(Image.open(tmp_path / "overlays/a.png"))
    assert picture[0, 0].tolist() == [0, 0, 0]
    assert picture[7, 25].tolist() == [255, 255, 255]
