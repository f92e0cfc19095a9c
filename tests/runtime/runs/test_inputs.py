"""Which files are taken for images, and what their results are called. Only names matter, so the files are empty."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from nuclei_runtime.errors import InputsError
from nuclei_runtime.readers.plates.field import ALL_FIELDS, PlateChoice
from nuclei_runtime.runs.inputs import Inputs, find_images


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def names(inputs: Inputs) -> list[str]:
    return [file.name for file in inputs.files]


def link_folder(link: Path, target: Path) -> None:
    try:
        link.symlink_to(target, target_is_directory=True)
    except OSError as error:  # Windows without the privilege
        pytest.skip(f"NOT RUN: this system makes no links to folders: {error}")


def test_a_folder_is_searched_with_its_subfolders(tmp_path: Path) -> None:
    touch(tmp_path, "in/b.TIF", "in/a.png", "in/plate 1/ü.JPeG", "in/notes.txt", "in/noext", "in/.hidden.png")
    touch(tmp_path, "in/.cache/c.png")
    inputs = find_images([tmp_path / "in"], out=tmp_path / "out")
    assert names(inputs) == ["a.png", "b.TIF", "plate 1/ü.JPeG"]
    assert [file.stem for file in inputs.files] == ["a", "b", "plate 1/ü"]
    assert [file.path for file in inputs.files] == [tmp_path / "in" / name for name in names(inputs)]
    assert inputs.n_skipped == 2
    assert inputs.unreadable == ()


def test_several_sources_are_named_from_their_common_folder(tmp_path: Path) -> None:
    touch(tmp_path, "x/day1/a.png", "x/day2/sub/a.png", "x/c.png")
    inputs = find_images([tmp_path / "x/day2", tmp_path / "x/day1/a.png"], out=tmp_path / "out")
    assert names(inputs) == ["day1/a.png", "day2/sub/a.png"]


def test_a_glob_that_the_shell_left_alone_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "p1/a.png", "p1/a.txt", "p2/b.png", "other/c.png")
    monkeypatch.chdir(tmp_path)
    assert names(find_images(["p*/*.png"], out="out")) == ["p1/a.png", "p2/b.png"]
    assert names(find_images(["**/*.png"], out="out")) == ["other/c.png", "p1/a.png", "p2/b.png"]
    assert names(find_images([str(tmp_path / "p?")], out="out")) == ["p1/a.png", "p2/b.png"]


def test_brackets_in_a_name_are_not_a_glob_if_the_file_exists(tmp_path: Path) -> None:
    touch(tmp_path, "well[1].png")
    assert names(find_images([tmp_path / "well[1].png"], out=tmp_path / "out")) == ["well[1].png"]


def test_a_file_named_twice_is_done_once(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.png", "in/sub/b.png")
    link_folder(tmp_path / "in/link", tmp_path / "in/sub")
    sources = [tmp_path / "in", tmp_path / "in/a.png", tmp_path / "in/sub", tmp_path / "in/sub/../a.png"]
    found = names(find_images(sources, out=tmp_path / "out"))
    assert len(found) == 2
    assert found[0] == "a.png"


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.png", "in/sub/b.png")
    link_folder(tmp_path / "in/sub/back", tmp_path / "in")
    assert names(find_images([tmp_path / "in"], out=tmp_path / "out")) == ["a.png", "sub/b.png"]


@pytest.mark.parametrize(
    ("files", "stems"),
    [
        (["a.png", "a.tif", "b.png"], ["a.png", "a.tif", "b"]),
        (["s/a.png", "t/a.tif"], ["s/a", "t/a"]),
        (["A1.png", "a1.jpg"], ["A1.png", "a1.jpg"]),  # the results may be on a case-insensitive file system
        (["a.png", "a.png.jpg", "a.tif"], ["a.png", "a.png.jpg", "a.tif"]),  # a whole name equals a stem
        (["a.b.png", "a.c.png"], ["a.b", "a.c"]),
        (["m.tif", "m_t000.tif"], ["m", "m_t000.tif"]),  # the first frame of a series
        (["M.tif", "m_T001_z002.tif", "m_z10.tif"], ["M", "m_T001_z002.tif", "m_z10"]),
        (["m_t000.tif", "m_t001.tif"], ["m_t000", "m_t001"]),  # names like frames, but no series
    ],
)
def test_images_of_one_stem_keep_their_whole_names(tmp_path: Path, files: list[str], stems: list[str]) -> None:
    touch(tmp_path / "in", *files)
    inputs = find_images([tmp_path / "in"], out=tmp_path / "out")
    assert names(inputs) == files
    assert [file.stem for file in inputs.files] == stems


RESULTS = ("nuclei.csv", "images.csv", "labels/a.tif", "labels/sub/b.tif", "overlays/a.png")


def test_an_earlier_result_is_not_read_back(tmp_path: Path) -> None:
    touch(tmp_path / "in", "a.png", "old/deep/real.png")
    touch(tmp_path / "in/old", *RESULTS)  # an earlier DIR inside IMAGES
    inputs = find_images([tmp_path / "in"], out=tmp_path / "new")
    assert names(inputs) == ["a.png", "old/deep/real.png"]
    assert inputs.n_skipped == 0


def test_this_runs_own_folder_is_not_read_back_even_without_its_table(tmp_path: Path) -> None:
    touch(tmp_path / "in", "a.png", "out/labels/a.tif", "out/overlays/a.png")
    assert names(find_images([tmp_path / "in"], out=tmp_path / "in/out")) == ["a.png"]


def test_the_results_may_lie_in_the_very_folder_of_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.png", *RESULTS)
    monkeypatch.chdir(tmp_path)
    assert names(find_images(["."], out=".")) == ["a.png"]


def test_the_images_may_lie_in_a_folder_inside_the_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "plate/a.png", *RESULTS)
    monkeypatch.chdir(tmp_path)
    assert names(find_images(["plate"], out=".")) == ["a.png"]
    assert names(find_images(["**/*"], out=".")) == ["plate/a.png"]


def test_a_folder_called_labels_that_is_not_a_result_is_read(tmp_path: Path) -> None:
    touch(tmp_path, "in/labels/a.png", "in/overlays/b.png")
    assert names(find_images([tmp_path / "in"], out=tmp_path / "out")) == ["labels/a.png", "overlays/b.png"]


def test_nothing_found_says_what_was_looked_for_and_what_was_skipped(tmp_path: Path) -> None:
    touch(tmp_path / "in", "a.doc", "b.doc", "c", *RESULTS)
    with pytest.raises(InputsError) as caught:
        find_images([tmp_path / "in"], out=tmp_path / "out")
    message = str(caught.value)
    assert str(tmp_path / "in") in message
    assert ".png" in message
    assert "3 other files (.doc, no suffix)" in message
    assert str(tmp_path / "in" / "labels") in message


def test_an_image_of_another_name_is_found_by_its_content(tmp_path: Path) -> None:
    touch(tmp_path / "in", "a.png", "notes.txt")
    (tmp_path / "in/well A1.001").write_bytes(b"II*\0")
    (tmp_path / "in/well A1.002").write_bytes(b"II*\0")
    inputs = find_images([tmp_path / "in"], out=tmp_path / "out")
    assert [file.stem for file in inputs.files] == ["a", "well A1.001", "well A1.002"]
    assert inputs.n_skipped == 1
    assert names(find_images([tmp_path / "in/well A1.002"], out=tmp_path / "out")) == ["well A1.002"]


def test_an_image_of_a_format_that_is_not_read_is_not_passed_over(tmp_path: Path) -> None:
    touch(tmp_path / "in", "a.png", "b.czi", "notes.txt")
    inputs = find_images([tmp_path / "in"], out=tmp_path / "out")
    assert names(inputs) == ["a.png", "b.czi"]
    assert inputs.n_skipped == 1


def test_a_folder_without_an_image_that_can_be_read_says_what_is_in_it(tmp_path: Path) -> None:
    touch(tmp_path / "in", "a.oir", "b.OIR", "sub/c.zvi", "notes.txt")
    with pytest.raises(InputsError) as caught:
        find_images([tmp_path / "in"], out=tmp_path / "out")
    message = str(caught.value)
    assert "2 found: Olympus OIR files are not read; export the image as OME-TIFF" in message
    assert "1 found: Zeiss ZVI files are not read; export the image as OME-TIFF" in message
    waiting = find_images([tmp_path / "in"], out=tmp_path / "out", may_be_none=True)  # others may still arrive
    assert names(waiting) == ["a.oir", "b.OIR", "sub/c.zvi"]


@pytest.mark.parametrize("source", ["absent.png", "absent", "*.png", ""])
def test_a_source_that_does_not_exist_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    touch(tmp_path, "in/a.png")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputsError, match="no "):
        find_images(["in", source], out="out")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="NOT RUN: this system has no named pipes")
def test_a_pipe_is_not_read(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.png")
    os.mkfifo(tmp_path / "in/b.png")
    inputs = find_images([tmp_path / "in"], out=tmp_path / "out")
    assert names(inputs) == ["a.png"]
    assert inputs.n_skipped == 1


def test_a_link_to_nothing_is_kept_so_that_it_is_reported(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.png")
    try:
        (tmp_path / "in/b.png").symlink_to(tmp_path / "gone.png")
    except OSError as error:
        pytest.skip(f"NOT RUN: this system makes no links: {error}")
    assert names(find_images([tmp_path / "in"], out=tmp_path / "out")) == ["a.png", "b.png"]


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.png", "in/closed/b.png")
    closed = tmp_path / "in/closed"
    closed.chmod(0)
    try:
        if os.access(closed, os.R_OK):
            pytest.skip("NOT RUN: this user may read everything")
        inputs = find_images([tmp_path / "in"], out=tmp_path / "out")
    finally:
        closed.chmod(0o700)
    assert names(inputs) == ["a.png"]
    assert len(inputs.unreadable) == 1
    assert str(closed) in inputs.unreadable[0]


def test_an_ome_zarr_folder_is_one_image(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.png", "in/b.ome.zarr/0/0.0.png", "in/b.ome.zarr/zarr.json", "in/sub/c.zarr/.zattrs")
    inputs = find_images([tmp_path / "in"], out=tmp_path / "out")
    assert names(inputs) == ["a.png", "b.ome.zarr", "sub/c.zarr"]
    assert [file.stem for file in inputs.files] == ["a", "b.ome", "sub/c"]
    alone = find_images([tmp_path / "in/b.ome.zarr"], out=tmp_path / "out")
    assert (names(alone), alone.root) == (["b.ome.zarr"], tmp_path / "in")
    well = find_images([tmp_path / "in/b.ome.zarr/0"], out=tmp_path / "out")
    assert (names(well), well.root) == (["0"], tmp_path / "in/b.ome.zarr")


def test_a_plate_without_fields_is_no_success_over_nothing(plates: Any, tmp_path: Path) -> None:
    nothing_selected = {f"WellsSelection{row}": ", ".join(["FALSE"] * 12) for row in range(1, 9)}
    plates.imagexpress(tmp_path / "in/htd", changes=nothing_selected)
    touch(tmp_path, "in/p.zarr/.zattrs")
    (tmp_path / "in/p.zarr/.zattrs").write_text('{"plate": {"wells": []}}', encoding="utf-8")
    for choice in (ALL_FIELDS, PlateChoice(wells=("A01",))):
        with pytest.raises(InputsError, match=r"htd: the index of the plate names no field.*p.zarr: the index"):
            find_images([tmp_path / "in"], out=tmp_path / "out", choice=choice)
    with pytest.raises(InputsError, match=r"p\.zarr: the index"):
        find_images([tmp_path / "in/p.zarr"], out=tmp_path / "out")
    waiting = find_images([tmp_path / "in"], out=tmp_path / "out", may_be_none=True)  # the plate may still be copied
    assert (waiting.files, waiting.unreadable) == ((), ())
    touch(tmp_path / "in", "a.png")
    inputs = find_images([tmp_path / "in"], out=tmp_path / "out")
    assert [file.name for file in inputs.files] == ["a.png"]
    assert [note.partition(": ")[0] for note in inputs.unreadable] == [
        str(tmp_path / "in/htd"),
        str(tmp_path / "in/p.zarr"),
    ]
