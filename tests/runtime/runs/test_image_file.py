"""Many images in a row: order, memory, and failures that affect only one image."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage

import nuclei_runtime.readers.opening
from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.errors import MissingExtraError, RuntimeEnvironmentError
from nuclei_runtime.readers.plane import Plane, Selection
from nuclei_runtime.results.folder import ResultsFolder
from nuclei_runtime.results.outcome import PlaneOutcome
from nuclei_runtime.results.records import record_of
from nuclei_runtime.runs.image_file import FileOutcome, process_file
from nuclei_runtime.runs.inputs import find_images
from nuclei_runtime.runs.workers import Job, Worker
from nuclei_runtime.segmentation.options import SegmenterOptions
from nuclei_runtime.segmentation.segmenter import Segmenter
from nuclei_runtime.writers.outputs import OutputOptions
from tests.contents import read_table


def save_fields(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(names):
        Image.fromarray(fluorescence_field(seed, height=96, width=100 + seed, n_nuclei=8)[0]).save(folder / name)


def worker(segmenter: Segmenter, selection: Selection | None = None) -> Worker:
    return Worker(Job(SegmenterOptions(), selection or Selection(), OutputOptions(), "key"), segmenter)


def process(folder: Path, segmenter: Segmenter, selection: Selection | None = None) -> Iterator[FileOutcome]:
    inputs = find_images([folder], out=folder / "out")
    results = ResultsFolder(folder / "out", "resume")
    results.write_provenance("{}")
    for file in inputs.files:
        yield process_file(file, worker(segmenter, selection), results.store)
    results.join((file.name for file in inputs.files), "key")


def run(folder: Path, segmenter: Segmenter, selection: Selection | None = None) -> Iterator[PlaneOutcome]:
    for outcome in process(folder, segmenter, selection):
        yield from outcome.planes


def test_outcomes_come_in_order_and_one_failure_is_its_own(tmp_path: Path, tiny_model: Path) -> None:
    save_fields(tmp_path, "a.png", "b.png", "d.png", "e.png")
    (tmp_path / "c.png").write_bytes(b"not an image")
    outcomes = list(run(tmp_path, Segmenter(tiny_model)))
    assert [outcome.image for outcome in outcomes] == ["a.png", "b.png", "c.png", "d.png", "e.png"]
    assert [outcome.status for outcome in outcomes] == ["ok", "ok", "failed", "ok", "ok"]
    for seed, outcome in enumerate(outcome for outcome in outcomes if outcome.status == "ok"):
        alone = Segmenter(tiny_model).segment(fluorescence_field(seed, height=96, width=100 + seed, n_nuclei=8)[0])
        written = tifffile.imread(tmp_path / "out" / str(outcome.labels))
        np.testing.assert_array_equal(written, alone.labels)
        assert outcome.n_nuclei == alone.count > 0


def test_an_image_of_a_format_that_is_not_read_fails_without_being_read(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be gigabytes."""
    save_fields(tmp_path, "a.png")
    (tmp_path / "b.oir").write_bytes(b"OLYMPUSRAWFORMAT")
    real = nuclei_runtime.runs.image_file.digest_file
    digested: list[str] = []
    monkeypatch.setattr(
        nuclei_runtime.runs.image_file, "digest_file", lambda path: [digested.append(path.name), real(path)][1]
    )
    for redone in (None, "it failed before"):
        good, bad = process(tmp_path, Segmenter(tiny_model))
        assert good.is_ok
        (plane,) = bad.planes
        assert (plane.image, plane.status, bad.redone) == ("b.oir", "failed", redone)
        assert plane.reason is not None
        assert plane.reason.startswith("Olympus OIR files are not read; export the image as OME-TIFF")
    assert "b.oir" not in digested


def test_an_image_is_read_when_its_turn_comes(tmp_path: Path, tiny_model: Path) -> None:
    save_fields(tmp_path, "a.png", "b.png", "c.png")
    outcomes = run(tmp_path, Segmenter(tiny_model))
    assert next(outcomes).status == "ok"
    (tmp_path / "b.png").unlink()
    assert [(outcome.image, outcome.status) for outcome in outcomes] == [("b.png", "failed"), ("c.png", "ok")]


@contextmanager
def planes_changed(change: Callable[[Path, Plane], list[Plane]]) -> Iterator[None]:
    """Change the planes that the reader returns for every file."""
    real = nuclei_runtime.readers.opening._find

    def changed(path: Path, selection: Selection, resources: ExitStack, troubles: list[OSError]) -> list[Plane]:
        (plane,) = real(path, selection, resources, troubles)
        return change(path, plane)

    nuclei_runtime.readers.opening._find = changed  # type: ignore[assignment]
    try:
        yield
    finally:
        nuclei_runtime.readers.opening._find = real


def while_reading(plane: Plane, action: Callable[[], None]) -> Plane:
    """Return the plane with an action that runs while it is read."""

    def read(rows: slice, columns: slice) -> np.ndarray:
        action()
        return plane.read(rows, columns)

    return replace(plane, read=read)


def fail_with(error: Exception) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def several_planes(n: int, broken: int | None = None) -> AbstractContextManager[None]:
    """Let every file contain its picture at several times, one of which cannot be read."""
    failing = fail_with(OSError(errno.EIO, "Input/output error"))

    def change(_: Path, plane: Plane) -> list[Plane]:
        planes = [replace(plane, time=time, pixel_size_um=(0.5, 0.25)) for time in range(n)]
        return [while_reading(plane, failing) if plane.time == broken else plane for plane in planes]

    return planes_changed(change)


def test_an_image_for_which_memory_is_short_fails_alone(tmp_path: Path, tiny_model: Path) -> None:
    save_fields(tmp_path, "a.png", "b.png", "c.png")

    def change(path: Path, plane: Plane) -> list[Plane]:
        return [while_reading(plane, fail_with(MemoryError())) if path.name == "b.png" else plane]

    with planes_changed(change):
        outcomes = list(run(tmp_path, Segmenter(tiny_model)))
    assert [outcome.status for outcome in outcomes] == ["ok", "failed", "ok"]
    assert "memory" in str(outcomes[1].reason)


def test_a_format_whose_package_is_missing_fails_alone(tmp_path: Path, tiny_model: Path) -> None:
    save_fields(tmp_path, "a.png", "b.png")

    def change(path: Path, plane: Plane) -> list[Plane]:
        return [while_reading(plane, fail_with(MissingExtraError("x", "y"))) if path.name == "a.png" else plane]

    with planes_changed(change):
        outcomes = list(run(tmp_path, Segmenter(tiny_model)))
    assert [outcome.status for outcome in outcomes] == ["failed", "ok"]
    assert "pip install" in str(outcomes[0].reason)


def test_a_name_that_is_not_text_fails_alone(tmp_path: Path, tiny_model: Path) -> None:
    save_fields(tmp_path, "a.png")
    try:
        (tmp_path / os.fsdecode(b"b\xff.png")).write_bytes((tmp_path / "a.png").read_bytes())
    except (OSError, UnicodeError) as error:
        pytest.skip(f"NOT RUN: this file system takes only names that are text: {error}")
    outcomes = list(run(tmp_path, Segmenter(tiny_model)))
    assert [outcome.status for outcome in outcomes] == ["ok", "failed"]
    assert "name" in str(outcomes[1].reason)
    assert b"b\\udcff.png" in (tmp_path / "out/images.csv").read_bytes()


def test_names_with_line_breaks_quotes_commas_and_signs_stay_names(tmp_path: Path, tiny_model: Path) -> None:
    names = ['=cmd|"x".png', "a\nb.png", "c, d.png", "'e'.png", "\nlabel,9.png", "f" * 251 + ".png"]
    try:
        save_fields(tmp_path / "in", *names)
    except OSError as error:
        pytest.skip(f"NOT RUN: this file system does not take such names: {error}")
    results = ResultsFolder(tmp_path / "out")
    results.write_provenance("{}")
    files = find_images([tmp_path / "in"], out=tmp_path / "out").files
    segmenter = Segmenter(tiny_model)
    assert all(process_file(file, worker(segmenter), results.store).is_ok for file in files)
    results.join((file.name for file in files), "key")
    rows = read_table(tmp_path / "out/images.csv")
    escaped = {name: f"'{name}" if name[0] in "=\n" else name for name in names}
    assert {row["image"] for row in rows} == set(escaped.values())
    assert {row["image"] for row in read_table(tmp_path / "out/nuclei.csv")} == set(escaped.values())
    for row in rows:
        assert tifffile.imread(tmp_path / "out" / row["labels"]).max() == int(row["n_nuclei"])


def test_a_stem_too_long_for_the_endings_is_shortened(tmp_path: Path, tiny_model: Path) -> None:
    names = ["é" * 125 + f"{digit}.png" for digit in "12"]  # 255 bytes in UTF-8
    try:
        save_fields(tmp_path / "in", *names)
    except OSError as error:
        pytest.skip(f"NOT RUN: this file system does not take such names: {error}")
    with several_planes(2):
        results = ResultsFolder(tmp_path / "out")
        results.write_provenance("{}")
        files = find_images([tmp_path / "in"], out=tmp_path / "out").files
        outcomes = [process_file(file, worker(Segmenter(tiny_model)), results.store) for file in files]
    assert all(outcome.is_ok for outcome in outcomes)
    labels = {str(plane.labels) for outcome in outcomes for plane in outcome.planes}
    assert len(labels) == 4
    assert all(name.endswith(("_t000.tif", "_t001.tif")) and (tmp_path / "out" / name).is_file() for name in labels)


def test_each_plane_of_a_file_has_its_results_and_fails_alone(tmp_path: Path, tiny_model: Path) -> None:
    save_fields(tmp_path, "a.png")
    with several_planes(3, broken=1):
        outcomes = list(run(tmp_path, Segmenter(tiny_model)))
    assert [(outcome.time, outcome.z, outcome.status) for outcome in outcomes] == [
        (0, None, "ok"),
        (1, None, "failed"),
        (2, None, "ok"),
    ]
    assert outcomes[1].reason == "cannot be read: Input/output error"
    assert (outcomes[0].pixel_height_um, outcomes[0].pixel_width_um) == (0.5, 0.25)
    assert sorted(path.name for path in (tmp_path / "out/labels").iterdir()) == ["a_t000.tif", "a_t002.tif"]
    assert [path.name for path in (tmp_path / "out/tables").iterdir()] == ["a.csv"]
    rows = read_table(tmp_path / "out/nuclei.csv")
    assert [row["time"] for row in rows] == ["0"] * int(outcomes[0].n_nuclei or 0) + ["2"] * int(
        outcomes[2].n_nuclei or 0
    )
    assert [row["time"] for row in read_table(tmp_path / "out/images.csv")] == ["0", "1", "2"]


def test_planes_whose_names_another_image_had_wait_until_it_has_another(tmp_path: Path, tiny_model: Path) -> None:
    save_fields(tmp_path, "a.png", "a_t000.png")
    segmenter = Segmenter(tiny_model)
    (tmp_path / "a.png").rename(tmp_path / "b.tmp")
    (alone,) = process(tmp_path, segmenter)
    assert alone.is_ok
    (tmp_path / "b.tmp").rename(tmp_path / "a.png")
    before = tifffile.imread(tmp_path / "out/labels/a_t000.tif")
    with several_planes(2):
        outcomes = {outcome.planes[0].image: outcome for outcome in process(tmp_path, segmenter)}
        assert not outcomes["a.png"].is_ok
        assert "is in the way" in str(outcomes["a.png"].planes[0].reason)
        assert outcomes["a_t000.png"].is_ok
        np.testing.assert_array_equal(tifffile.imread(tmp_path / "out/labels/a_t000.png_t000.tif"), before)
        outcomes = {outcome.planes[0].image: outcome for outcome in process(tmp_path, segmenter)}
    assert outcomes["a.png"].is_ok
    assert outcomes["a_t000.png"].is_kept
    names = ["a_t000.png_t000.tif", "a_t000.png_t001.tif", "a_t000.tif", "a_t001.tif"]
    assert sorted(path.name for path in (tmp_path / "out/labels").iterdir()) == names


def test_a_file_that_changes_while_it_is_read_fails(tmp_path: Path, tiny_model: Path) -> None:
    save_fields(tmp_path, "a.png")

    def change(path: Path, plane: Plane) -> list[Plane]:
        def grow() -> None:
            with path.open("ab") as file:
                file.write(b"more")

        return [while_reading(plane, grow)]

    with planes_changed(change):
        (outcome,) = run(tmp_path, Segmenter(tiny_model))
    assert (outcome.status, "changed while it was read" in str(outcome.reason)) == ("failed", True)


def test_a_full_disk_that_shows_while_reading_is_not_the_images_fault(tmp_path: Path, tiny_model: Path) -> None:
    """Data that does not fit into memory is kept on disk while an image is segmented."""
    save_fields(tmp_path, "a.png")
    full = fail_with(OSError(errno.ENOSPC, "No space left on device"))
    with (
        planes_changed(lambda _, plane: [while_reading(plane, full)]),
        pytest.raises(RuntimeEnvironmentError, match="No space left"),
    ):
        list(run(tmp_path, Segmenter(tiny_model)))


def test_each_nucleus_is_one_piece_and_the_numbers_have_no_gaps(tmp_path: Path, tiny_model: Path) -> None:
    save_fields(tmp_path, "a.png", "b.png", "c.png")
    for outcome in run(tmp_path, Segmenter(tiny_model)):
        labels = tifffile.imread(tmp_path / "out" / str(outcome.labels))
        assert np.unique(labels).tolist() == list(range(int(outcome.n_nuclei or 0) + 1))
        for number in range(1, labels.max() + 1):
            assert ndimage.label(labels == number)[1] == 1


def test_a_segmenter_may_be_shared_by_threads(tiny_model: Path) -> None:
    segmenter = Segmenter(tiny_model, threads=1)
    images = [fluorescence_field(seed, height=64 + seed, width=80, n_nuclei=6)[0] for seed in range(16)]
    expected = [segmenter.segment(image).labels for image in images]
    assert any(labels.any() for labels in expected)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda image: segmenter.segment(image).labels, images * 4))
    for labels, wanted in zip(found, expected * 4, strict=True):
        np.testing.assert_array_equal(labels, wanted)


def test_the_row_of_an_image_says_which_channel_was_segmented_with_which_contrast(
    tmp_path: Path, tiled_model: Path
) -> None:
    field, _ = fluorescence_field(3, height=96, width=130, n_nuclei=8)
    nothing = np.zeros_like(field)
    Image.fromarray(field).save(tmp_path / "a_grey.png")
    Image.fromarray(np.dstack([nothing, nothing, field])).save(tmp_path / "b_blue.png")
    Image.fromarray(np.dstack([field, field[::-1], nothing])).save(tmp_path / "c_colour.png")
    Image.fromarray(nothing).save(tmp_path / "d_nothing.png")
    (tmp_path / "e_broken.png").write_bytes(b"")
    tifffile.imwrite(tmp_path / "f_stack.tif", np.stack([field, field]), imagej=True, metadata={"axes": "CYX"})
    segmenter = Segmenter(tiled_model)
    outcomes = list(run(tmp_path, segmenter, Selection(channel=0)))
    rows = read_table(tmp_path / "out/images.csv")
    assert [row["channel"] for row in rows] == ["", "blue only", "rgb", "", "", "0"]
    contrast = segmenter.segment(field).contrast
    assert contrast is not None
    assert contrast.high > contrast.low
    for row in (rows[0], rows[1], rows[5]):
        assert (float(row["contrast_low"]), float(row["contrast_high"])) == (contrast.low, contrast.high)
        assert float(row["structure_share"]) == pytest.approx(contrast.structure)
        assert row["flags"] in ("", "nothing_found")  # the model is not trained
    assert (rows[3]["contrast_low"], rows[3]["contrast_high"], rows[3]["structure_share"]) == ("", "", "0")
    assert rows[3]["flags"] == "blank"
    assert {rows[4][column] for column in ("channel", "contrast_low", "structure_share", "flags")} == {""}
    stored = [record_of(tmp_path / "out", row["image"]) for row in rows]
    assert [plane for record in stored if record is not None for plane in record.planes] == outcomes
