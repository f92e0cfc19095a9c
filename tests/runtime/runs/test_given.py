"""Corrected labels are measured as a run measures its own: the same files and records, and what was changed."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import roifile
import tifffile
from PIL import Image

from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.errors import InputsError
from nuclei_runtime.readers.outlines.opening import read_outlines
from nuclei_runtime.readers.plane import Selection
from nuclei_runtime.runs.config import RunConfig
from nuclei_runtime.runs.image_file import FileOutcome
from nuclei_runtime.runs.run import FolderRun
from nuclei_runtime.runs.verify import verify
from nuclei_runtime.segmentation.options import SegmenterOptions
from nuclei_runtime.writers.outputs import OutputOptions
from tests.contents import read_table

ALL_FORMS = OutputOptions(("labels", "overlays", "geojson", "roi"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> RunConfig:
    """A finished run over two images and a series."""
    tmp_path = tmp_path_factory.mktemp("finished")
    (tmp_path / "in/plate").mkdir(parents=True)
    for seed, name in enumerate(("a.png", "plate/b.png")):
        Image.fromarray(fluorescence_field(seed, height=96, width=120, n_nuclei=9)[0]).save(tmp_path / "in" / name)
    frames = np.stack([fluorescence_field(seed, height=80, width=90, n_nuclei=6)[0] for seed in (7, 8)])
    tifffile.imwrite(tmp_path / "in/series.ome.tif", frames, metadata={"axes": "TYX"})
    config = RunConfig((str(tmp_path / "in"),), tmp_path / "r", SegmenterOptions(tiny_model), outputs=ALL_FORMS)
    do(config)
    return config


@pytest.fixture
def run(tmp_path: Path, finished: RunConfig) -> RunConfig:
    """A copy of it, whose results are in tmp_path/r."""
    shutil.copytree(finished.out.parent, tmp_path, dirs_exist_ok=True)
    return replace(finished, sources=(str(tmp_path / "in"),), out=tmp_path / "r")


def do(config: RunConfig) -> dict[str, FileOutcome]:
    with FolderRun(config) as folder_run:
        return {outcome.planes[0].image: outcome for outcome in folder_run.outcomes()}


def measuring(run: RunConfig, labels: Path | None = None, before: Path | None = None) -> RunConfig:
    return replace(run, out=run.out.with_name("m"), labels=labels or run.out, before=before, options=SegmenterOptions())


def contents(folder: Path, *names: str) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for name in names
        for path in sorted((folder / name).rglob("*"))
        if path.is_file()
    }


def change(path: Path, edit: Callable[[np.ndarray], None]) -> np.ndarray:
    labels = tifffile.imread(path)
    edit(labels)
    tifffile.imwrite(path, labels, compression="zlib")
    return labels


def delete_first(labels: np.ndarray) -> None:
    labels[labels == 1] = 0


def test_labels_that_nobody_changed_give_the_files_of_the_run(run: RunConfig) -> None:
    outcomes = do(measuring(run))
    kinds = ("labels", "original_labels", "overlays", "tables", "geojson", "roi")
    assert contents(run.out.with_name("m"), *kinds) == contents(run.out, *kinds)
    assert (run.out.with_name("m") / "nuclei.csv").read_bytes() == (run.out / "nuclei.csv").read_bytes()
    planes = [plane for outcome in outcomes.values() for plane in outcome.planes]
    assert len(planes) == 4
    for plane, before in zip(planes, read_table(run.out / "images.csv"), strict=True):
        assert (plane.n_unchanged, plane.n_nuclei) == (int(before["n_nuclei"]), int(before["n_nuclei"]))
        assert (plane.n_redrawn, plane.n_added, plane.n_removed, plane.n_split, plane.n_merged) == (0, 0, 0, 0, 0)
        assert (plane.scale, plane.stain, plane.expected_ap, plane.contrast_low) == (None, None, None, None)


def test_what_was_corrected_in_its_place_is_measured_and_counted(run: RunConfig) -> None:
    corrected = change(run.out / "labels/a.tif", delete_first)
    change(run.out / "labels/series.ome_t001.tif", lambda labels: labels.__setitem__((slice(0, 4), slice(0, 4)), 900))
    outcomes = do(measuring(run))
    (plane,) = outcomes["a.png"].planes
    assert (plane.n_removed, plane.n_added, plane.n_unchanged) == (1, 0, plane.n_nuclei)
    first, second = outcomes["series.ome.tif"].planes
    assert (first.n_added, second.n_added) == (0, 1)
    out = run.out.with_name("m")
    np.testing.assert_array_equal(tifffile.imread(out / "labels/a.tif"), corrected)
    rows = [row for row in read_table(out / "nuclei.csv") if row["image"] == "a.png"]
    assert [int(row["label"]) for row in rows] == np.unique(corrected)[1:].tolist()
    assert [int(row["area_px"]) for row in rows] == np.unique(corrected, return_counts=True)[1][1:].tolist()
    np.testing.assert_array_equal(read_outlines(out / "geojson/a.geojson").labels(corrected.shape), corrected)
    np.testing.assert_array_equal(read_outlines(out / "roi/a.zip").labels(corrected.shape), corrected)
    method = json.loads((out / "provenance.json").read_text(encoding="utf-8"))["method"]
    assert "no model" in method["labels"]
    assert method["corrected_from"]["model"]["name"] == "tiny"
    assert "model" not in method


@pytest.mark.parametrize("form", ["geojson", "roi"])
def test_outlines_that_were_corrected_are_measured(run: RunConfig, form: str) -> None:
    path = run.out / {"geojson": "geojson/a.geojson", "roi": "roi/a.zip"}[form]
    labels = tifffile.imread(run.out / "labels/a.tif")
    if form == "geojson":
        document = json.loads(path.read_text(encoding="utf-8"))
        document["features"] = [one for one in document["features"] if one["properties"]["name"] != "2"]
        path.write_text(json.dumps(document), encoding="utf-8")
    else:
        roifile = pytest.importorskip("roifile")
        rois = [roi for roi in roifile.roiread(path) if roi.name != "2"]
        path.unlink()
        roifile.roiwrite(path, rois)
    (plane,) = do(measuring(run))["a.png"].planes
    assert (plane.n_removed, plane.n_redrawn, plane.note) == (1, 0, None)
    labels[labels == 2] = 0
    np.testing.assert_array_equal(tifffile.imread(run.out.with_name("m") / "labels/a.tif"), labels)


def test_two_corrections_of_one_image_are_not_chosen_between(run: RunConfig) -> None:
    change(run.out / "labels/a.tif", delete_first)
    path = run.out / "geojson/a.geojson"
    path.write_text(path.read_text(encoding="utf-8").replace('"1"', '"99"'), encoding="utf-8")
    (plane,) = do(measuring(run))["a.png"].planes
    assert plane.status == "failed"
    assert plane.reason is not None
    assert plane.reason.startswith("labels/a.tif and geojson/a.geojson were both changed since the run")


def test_changes_are_unknown_if_nothing_holds_the_labels_before(run: RunConfig) -> None:
    change(run.out / "labels/a.tif", delete_first)
    for path in ("original_labels/a.tif", "geojson/a.geojson", "roi/a.zip"):
        (run.out / path).unlink()
    (plane,) = do(measuring(run))["a.png"].planes
    assert (plane.status, plane.n_removed, plane.n_unchanged) == ("ok", None, None)
    assert plane.note is not None
    assert plane.note.startswith("what was changed is not known: the label image was corrected in its place")


def test_a_folder_of_labels_is_paired_by_name(run: RunConfig, tmp_path: Path) -> None:
    folder = tmp_path / "corrected"
    folder.mkdir()
    for name in ("plate/b.tif", "series.ome_t000.tif", "series.ome_t001.tif"):
        (folder / Path(name).name).write_bytes((run.out / "labels" / name).read_bytes())
    change(folder / "b.tif", delete_first)
    tifffile.imwrite(folder / "nobody.tif", np.zeros((4, 4), np.uint8))
    (folder / "notes.txt").write_text("no labels")
    with FolderRun(measuring(run, folder, before=run.out)) as measured:
        outcomes = {outcome.planes[0].image: outcome for outcome in measured.outcomes()}
    assert measured.labels is not None
    assert measured.labels.without_image == ("nobody.tif",)
    assert measured.labels.without_labels == ("a.png",)
    assert [*outcomes] == ["plate/b.png", "series.ome.tif"]
    assert outcomes["plate/b.png"].planes[0].n_removed == 1
    assert [plane.n_removed for plane in outcomes["series.ome.tif"].planes] == [0, 0]


def test_labels_of_an_image_are_not_taken_for_those_of_a_frame_of_another(tmp_path: Path) -> None:
    for folder, blank in (("images", 90), ("labels", 0)):
        (tmp_path / folder).mkdir()
        frames = np.full((4, 40, 50), blank, np.uint8)
        other = frames[0].copy()
        if folder == "labels":
            frames[:, 4:10, 4:10] = 1
            other[4:10, 4:10], other[20:30, 20:30] = 1, 2
        tifffile.imwrite(tmp_path / folder / "a.tif", frames, imagej=True, metadata={"axes": "TYX"})
        tifffile.imwrite(tmp_path / folder / "a_t003.tif", other)
    outcomes = do(RunConfig((str(tmp_path / "images"),), tmp_path / "m", labels=tmp_path / "labels"))
    assert {name: [plane.n_nuclei for plane in outcome.planes] for name, outcome in outcomes.items()} == {
        "a.tif": [1, 1, 1, 1],
        "a_t003.tif": [2],
    }


def test_results_of_an_image_are_not_those_of_one_whose_stem_is_its_name(run: RunConfig, tmp_path: Path) -> None:
    """The stem of ``c.tif.png`` is ``c.tif``, which is the name of another image."""
    (tmp_path / "in/a.png").rename(tmp_path / "in/c.tif.png")
    run = replace(run, mode="resume")
    do(run)
    tifffile.imwrite(tmp_path / "in/c.tif", np.zeros((96, 120), np.uint8))
    assert "c.tif" not in do(measuring(run))


def test_rois_of_a_stack_are_measured_on_the_planes_that_they_were_drawn_on(tmp_path: Path) -> None:
    stack = np.full((3, 40, 50), 90, np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True, metadata={"axes": "ZYX"})
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for place in range(3):  # as Fiji's ROI Manager stores them for a stack that is no hyperstack
            corners = [[5 + place, 4], [15 + place, 4], [15 + place, 10 + place], [5 + place, 10 + place]]
            roi = roifile.ImagejRoi.frompoints(corners, position=place)
            archive.writestr(f"{place}.roi", roi.tobytes())
    source = (str(tmp_path / "a.tif"),)
    config = RunConfig(source, tmp_path / "m", selection=Selection(z="each"), labels=tmp_path / "a.zip")
    (outcome,) = do(config).values()
    assert [(plane.z, plane.n_nuclei, plane.note) for plane in outcome.planes] == [(z, 1, None) for z in range(3)]
    rows = read_table(tmp_path / "m/nuclei.csv")
    assert [(row["z"], row["area_px"]) for row in rows] == [("0", "60"), ("1", "70"), ("2", "80")]


def test_labels_in_a_folder_within_that_of_the_images_are_no_images(run: RunConfig, tmp_path: Path) -> None:
    shutil.copytree(run.out / "labels/plate", tmp_path / "in/masks/plate")
    outcomes = do(measuring(run, tmp_path / "in/masks"))
    assert [name for name, outcome in outcomes.items() if outcome.is_ok] == ["plate/b.png"]


def test_outlines_beside_their_images_are_paired(run: RunConfig, tmp_path: Path) -> None:
    for name in ("a", "plate/b"):
        shutil.copy(run.out / "geojson" / f"{name}.geojson", tmp_path / "in" / f"{name}.geojson")
    outcomes = do(measuring(run, tmp_path / "in"))
    assert [name for name, outcome in outcomes.items() if outcome.is_ok] == ["a.png", "plate/b.png"]


def test_without_an_earlier_run_nothing_is_counted(run: RunConfig) -> None:
    outcome = do(measuring(run, run.out / "labels"))["a.png"]
    assert (outcome.planes[0].status, outcome.planes[0].n_unchanged, outcome.planes[0].note) == (
        "ok",
        None,
        None,
    )


def test_measurements_are_resumed_and_verified_like_a_run(run: RunConfig) -> None:
    config = measuring(run)
    do(config)
    resumed = replace(config, mode="resume")
    assert all(outcome.is_kept for outcome in do(resumed).values())
    assert not [verified for verified in verify(resumed) if verified.differences]
    change(run.out / "labels/a.tif", delete_first)
    assert [one.name for one in verify(resumed) if "the labels are not those" in str(one.differences)] == ["a.png"]
    outcomes = do(resumed)
    assert {name: outcome.redone for name, outcome in outcomes.items() if not outcome.is_kept} == {
        "a.png": "its labels have changed"
    }
    assert not [verified for verified in verify(resumed) if verified.differences]
    change(config.out / "labels/a.tif", delete_first)  # corrected once more, in the new folder
    assert do(resumed)["a.png"].changed == ("labels/a.tif",)


@pytest.mark.parametrize("how", [{"imagej": True, "metadata": {"axes": "CYX"}}, {"metadata": None}])
def test_a_file_of_several_label_images_fails_with_a_sentence(run: RunConfig, how: dict[str, Any]) -> None:
    labels = tifffile.imread(run.out / "labels/a.tif")
    tifffile.imwrite(run.out / "labels/a.tif", np.stack([labels, labels]), **how)
    (plane,) = do(measuring(run))["a.png"].planes
    assert plane.reason is not None
    assert plane.reason.startswith("labels/a.tif: the file holds a stack of ")
    assert plane.reason.endswith("; save the label image alone as a file")


def test_labels_that_cannot_be_read_now_do_not_cost_the_earlier_measurements(
    run: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = measuring(run)
    do(config)
    before = (config.out / "nuclei.csv").read_bytes()
    real = Path.open

    def refusing(path: Path, *arguments: Any, **options: Any) -> Any:
        if path == run.out / "labels/a.tif":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", refusing)
    outcome = do(replace(config, mode="resume"))["a.png"]
    assert (outcome.planes[0].reason or "").endswith(
        "a.tif: cannot be read: Permission denied; its earlier results are kept"
    )
    assert (config.out / "nuclei.csv").read_bytes() == before


def test_labels_that_do_not_fit_fail_alone_and_are_named(run: RunConfig) -> None:
    tifffile.imwrite(run.out / "labels/a.tif", np.ones((5, 6), np.uint16))
    outcomes = do(measuring(run))
    (plane,) = outcomes["a.png"].planes
    assert plane.status == "failed"
    assert plane.reason is not None
    assert plane.reason.startswith("labels/a.tif: the labels are 5 x 6 pixels, the image is 96 x 120")
    assert outcomes["plate/b.png"].is_ok


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda _: None, "no such file or folder"),
        (lambda path: path.mkdir(), "contains neither label images nor outlines"),
        (lambda path: [path.mkdir(), tifffile.imwrite(path / "x.tif", np.ones((4, 4), np.uint8))], "no labels fit any"),
        (
            lambda path: [path.mkdir(), *((path / f"a.{end}").write_bytes(b"II*\0") for end in ("tif", "geojson"))],
            "a.geojson and a.tif are both labels of a.png",
        ),
    ],
    ids=["missing", "empty", "foreign", "twice"],
)
def test_labels_that_cannot_be_paired_are_refused(
    run: RunConfig, tmp_path: Path, make: Callable[[Path], object], message: str
) -> None:
    make(tmp_path / "given")
    with pytest.raises(InputsError, match=message):
        FolderRun(measuring(run, tmp_path / "given"))


def test_only_a_results_folder_can_be_what_was_before(run: RunConfig, tmp_path: Path) -> None:
    with pytest.raises(InputsError, match="not a results folder"):
        FolderRun(measuring(run, before=tmp_path / "in"))
