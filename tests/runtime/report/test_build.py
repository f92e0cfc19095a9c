"""The report as a file: what is in it, what it replaces, and what it is made of."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from html.parser import HTMLParser
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.errors import InputsError, ResultsExistError
from nuclei_runtime.report.build import flags_of, write_report
from nuclei_runtime.report.citation import how_to_cite
from nuclei_runtime.report.label_images import MAX_LABELS_PX, read_labels
from nuclei_runtime.results.read_tables import nuclei_columns, read_rows
from nuclei_runtime.runs.config import RunConfig
from nuclei_runtime.runs.run import FolderRun
from nuclei_runtime.segmentation.options import SegmenterOptions
from nuclei_runtime.steps.flags import Flag

ROOT = Path(__file__).parents[3]
HTTP = re.compile(r"https?://[^\s\"'<)]+")


class Parsed(HTMLParser):
    """The blocks of a report, and the names of all tags and attributes."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.blocks: dict[str, str] = {}
        self.kinds: list[str | None] = []
        self.attributes: set[str] = set()
        self.tags: list[str] = []
        self._id: str | None = None
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag == "script":
            self._id = dict(attrs).get("id")
            self.kinds.append(dict(attrs).get("type"))

    def handle_data(self, data: str) -> None:
        if self._id is not None:
            self.blocks[self._id] = self.blocks.get(self._id, "") + data

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self._id = None


@pytest.fixture
def copied(results: Path, tmp_path: Path) -> Path:
    """A copy of `results`, beside which its images are missing."""
    return shutil.copytree(results, tmp_path / "copied")


def document(out: Path) -> dict:  # type: ignore[type-arg]
    return json.loads(Parsed(out / "report.html").blocks["report"])  # type: ignore[no-any-return]


def test_names_of_files_are_data_and_never_tags(results: Path) -> None:
    page = Parsed(results / "report.html")
    assert page.kinds.count("module") == 1
    assert set(page.kinds) == {"module", "application/json", "application/octet-stream"}
    assert "img" not in page.tags
    assert not any(name.startswith("on") for name in page.attributes)
    names = [image["row"]["image"] for image in document(results)["images"]]
    assert len(names) == 11
    assert sum("&" in name or "<" in name for name in names) == 1


def test_nothing_is_loaded_and_no_text_becomes_a_tag(results: Path) -> None:
    text = (results / "report.html").read_text(encoding="utf-8")
    assert set(HTTP.findall(text)) <= {"http://www.w3.org/2000/svg", "https://doi.org/10.1038/s41592-019-0612-7"}
    assert "default-src 'none'" in text
    scripts = "".join(path.read_text(encoding="utf-8") for path in (files("nuclei_runtime.report") / "page").iterdir())
    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "fetch("):
        assert way not in scripts


def test_it_shows_every_image_with_what_is_known_of_it(results: Path) -> None:
    found = {image["row"]["image"]: image for image in document(results)["images"]}
    well = found["plate 1/B01.tif"]
    assert well["well"] == ["plate 1", 1, 0, "B01"]
    assert well["condition"].startswith("drug ")
    assert (well["picture"], well["outlines"]["scale"], well["outlines"]["n"]) == ("image", 1, well["n"])
    assert well["flags"] == []
    assert found["broken.png"]["flags"] == [["failed", found["broken.png"]["row"]["reason"], ""]]
    assert found["empty.png"]["flags"] == [["blank", Flag.BLANK.reason, Flag.BLANK.advice]]
    assert [found["broken.png"]["picture"], found["empty.png"]["n"], found["empty.png"]["outlines"]] == [None, 0, None]


def test_its_columns_are_those_of_the_table_with_their_meaning(results: Path) -> None:
    shown = document(results)
    header = nuclei_columns(results)
    assert [column["name"] for column in shown["columns"]] == list(header[header.index("label") :])
    assert all(column["meaning"] for column in shown["columns"])
    assert shown["left_out"] == []


def test_images_that_have_gone_are_shown_by_their_overlays(copied: Path) -> None:
    write_report(copied)
    kinds = [image["picture"] for image in document(copied)["images"] if image["row"]["status"] == "ok"]
    assert kinds == ["overlay"] * 10


def test_an_image_that_has_changed_is_not_shown(results: Path, copied: Path) -> None:
    shutil.copytree(results.parent / "images", copied.parent / "images")
    tifffile.imwrite(copied.parent / "images" / "plate 1" / "A01.tif", np.zeros((96, 128), np.uint8))
    write_report(copied)
    found = {image["row"]["image"]: image["picture"] for image in document(copied)["images"]}
    assert (found["plate 1/A01.tif"], found["plate 2/A01.tif"]) == ("overlay", "image")


def test_a_frame_that_cannot_be_read_costs_no_other_its_picture(tmp_path: Path, tiny_model: Path) -> None:
    frames = np.stack([fluorescence_field(seed, height=64, width=80, n_nuclei=5)[0] for seed in range(3)])
    frames = frames.astype(np.float32)
    frames[1, 0, 0] = np.nan
    tifffile.imwrite(tmp_path / "series.tif", frames, photometric="minisblack", metadata={"axes": "TYX"})
    config = RunConfig((str(tmp_path / "series.tif"),), tmp_path / "out", SegmenterOptions(tiny_model))
    with FolderRun(config) as run:
        list(run.outcomes())
    write_report(tmp_path / "out")
    images = document(tmp_path / "out")["images"]
    assert [(image["row"]["status"], image["picture"]) for image in images] == [
        ("ok", "image"),
        ("failed", None),
        ("ok", "image"),
    ]


def test_the_fields_of_a_plate_are_shown_without_the_outlines_of_their_overlays(
    tmp_path: Path, plates: Any, tiny_model: Path
) -> None:
    plate = plates.imagexpress(tmp_path / "data/p.x", wells=("A01", "B02"), waves=("DAPI",))
    for seed, (well, site) in enumerate(product(("A01", "B02"), (1, 2))):
        field = fluorescence_field(seed, height=64, width=96, n_nuclei=4)[0]
        tifffile.imwrite(plate / f"P_{well}_s{site}.TIF", field)
    shutil.copytree(plate, tmp_path / "data/inner/p.x")
    out = tmp_path / "out"
    with FolderRun(RunConfig((str(plate.parent),), out, SegmenterOptions(tiny_model))) as run:
        assert all(outcome.is_ok for outcome in run.outcomes())
    write_report(out)
    images = document(out)["images"]
    assert [image["row"]["image"] for image in images][:5] == [
        *(f"inner/p.x_{field}" for field in ("A01_f01", "A01_f02", "B02_f01", "B02_f02")),
        "p.x_A01_f01",
    ]
    assert [image["picture"] for image in images] == ["image"] * 8
    (plate / "P.HTD").unlink()  # no plate any more
    write_report(out)
    assert [image["picture"] for image in document(out)["images"]] == ["image"] * 4 + ["overlay"] * 4
    shutil.rmtree(plate)
    write_report(out)
    assert [image["picture"] for image in document(out)["images"]] == ["image"] * 4 + ["overlay"] * 4


def test_corrected_labels_are_named_and_shown_as_they_were_measured(copied: Path) -> None:
    corrected = copied / "labels/plate 1/A01.tif"
    tifffile.imwrite(corrected, np.zeros_like(tifffile.imread(corrected)))
    Image.fromarray(np.zeros((96, 128), np.uint8)).save(copied / "overlays/plate 1/A01.png")
    write_report(copied)
    found = {image["row"]["image"]: image for image in document(copied)["images"]}
    image = found["plate 1/A01.tif"]
    changed = "labels/plate 1/A01.tif, overlays/plate 1/A01.png"
    assert image["flags"] == [["changed", f"changed after the run: {changed}; shown and counted as it was before", ""]]
    assert image["outlines"]["n"] == image["n"] > 0
    assert found["plate 2/A01.tif"]["flags"] == []


def test_a_change_that_keeps_the_size_and_the_time_of_a_file_is_named(copied: Path) -> None:
    path = copied / "tables/plate 1/A01.csv"
    before, table = path.stat(), path.read_bytes()
    path.write_bytes(table[:-3] + bytes([ord("1") + (table[-3] == ord("1"))]) + table[-2:])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    write_report(copied)
    found = {image["row"]["image"]: image["flags"] for image in document(copied)["images"]}
    assert [flag[:1] for flag in found["plate 1/A01.tif"]] == [["changed"]]
    assert "tables/plate 1/A01.csv" in found["plate 1/A01.tif"][0][1]


def test_without_label_images_and_overlays_there_are_tables(copied: Path) -> None:
    for folder in ("labels", "original_labels", "overlays"):
        shutil.rmtree(copied / folder)
    write_report(copied)
    shown = document(copied)
    assert {image[part] for image in shown["images"] for part in ("picture", "outlines")} == {None}
    assert sum(image["n"] for image in shown["images"]) == len(read_rows(copied / "nuclei.csv"))


def test_paths_that_lead_out_of_the_folder_are_not_followed(copied: Path) -> None:
    outside = copied.parent / "outside.tif"
    tifffile.imwrite(outside, np.ones((96, 128), np.uint16))
    record = next(path for path in (copied / "records").iterdir() if '"plate 1/A01.tif"' in path.read_text("utf-8"))
    plane = '"labels": "labels/plate 1/A01.tif"'
    elsewhere = record.read_text("utf-8").replace(plane, '"labels": "labels/../../outside.tif"')
    record.write_text(elsewhere, encoding="utf-8")
    write_report(copied)
    found = {image["row"]["image"]: image for image in document(copied)["images"]}
    assert found["plate 1/A01.tif"]["row"]["labels"] == "labels/../../outside.tif"
    assert (found["plate 1/A01.tif"]["outlines"], found["plate 1/A01.tif"]["picture"]) == (None, None)


def test_a_report_is_replaced_and_a_file_of_the_users_is_not(copied: Path) -> None:
    write_report(copied)
    (copied / "report.html").write_text("<p>my own report</p>", encoding="utf-8")
    with pytest.raises(ResultsExistError, match="not a report of nuclei-edge"):
        write_report(copied)
    assert (copied / "report.html").read_text(encoding="utf-8") == "<p>my own report</p>"


@pytest.mark.skipif(sys.platform != "linux", reason="names that are not UTF-8 exist on Linux only")
def test_a_folder_may_have_a_name_that_is_not_text(copied: Path) -> None:
    odd = copied.rename(copied.with_name(os.fsdecode(b"res\xff")))
    write_report(odd)
    assert "<title>res?" in (odd / "report.html").read_text(encoding="utf-8")


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputsError, match=r"holds no results of nuclei-infer"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_tables_in_the_folder_may_have_any_style_or_be_gone(results: Path, copied: Path) -> None:
    for name in ("nuclei.csv", "summary.csv"):
        (copied / name).unlink()
    (copied / "images.csv").write_text(
        "\ufeff" + (copied / "images.csv").read_text(encoding="utf-8").replace(",", ";"), encoding="utf-8"
    )
    write_report(copied)
    rows = [[image[part] for part in ("row", "n", "condition", "well")] for image in document(copied)["images"]]
    assert rows == [
        [image[part] for part in ("row", "n", "condition", "well")] for image in document(results)["images"]
    ]
    assert not any(path.name.startswith(".nuclei-report") for path in copied.iterdir())


def test_flags_are_failures_and_those_of_the_table() -> None:
    assert flags_of({"status": "failed", "reason": "truncated"}) == [("failed", "truncated", "")]
    assert flags_of({"status": "ok", "expected_ap": "0"}) == []
    low = Flag.LOW_EXPECTED_AP
    assert flags_of({"status": "ok", "flags": "low_expected_ap;of_another_version"}) == [(low, low.reason, low.advice)]
    assert flags_of({"status": "ok", "flags": "", "note": "of another size"}) == [("note", "of another size", "")]


@pytest.mark.parametrize("tile", [None, (512, 512)])
def test_a_large_label_image_is_scaled_down_as_it_is_read(tile: tuple[int, int] | None, tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 60_000, (MAX_LABELS_PX + 10, 700), np.uint16)
    (tmp_path / "labels").mkdir()
    rows = {} if tile else {"rowsperstrip": 37}
    tifffile.imwrite(tmp_path / "labels/a.tif", labels, tile=tile, compression="zlib", **rows)
    found = read_labels(tmp_path, "labels/a.tif")
    assert found is not None
    assert found[1] == 2
    assert np.array_equal(found[0], labels[1::2, 1::2])


def test_it_says_how_to_cite_as_the_citation_file_does() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    said = how_to_cite()
    for key in ("title", "version", "license", "doi", "volume", "start", "end", "year"):
        for value in re.findall(rf"^ *{key}: \"?(.+?)\"?$", citation, re.MULTILINE):
            assert value in said
    for name in re.findall(r"family-names: (.+)", citation):
        assert name in said
