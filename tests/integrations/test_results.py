"""Results of the installed command, opened in napari."""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from nuclei_runtime import read_image, save_labels
from nuclei_runtime.checks.synthetic import fluorescence_field

pytest.importorskip("pandas", reason="NOT RUN: pandas is not installed")

from nuclei_napari.corrections import ORIGIN, save_corrections
from nuclei_napari.errors import FolderError, LayerError
from nuclei_napari.label_writer import write_label_image
from nuclei_napari.results import MAX_AT_ONCE, get_reader, list_planes, open_plane, read_results

NUMBER = re.compile(r"-?\d+(\.\d+)?(e[-+]\d+)?")
FIELD, _ = fluorescence_field(5, height=96, width=128, n_nuclei=9)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, run_script: Callable[..., Any]) -> Path:
    """A folder with ``images`` and their ``results``: grey, colour, a formula's name, and a series with pixel sizes."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "images" / "sub").mkdir(parents=True)
    Image.fromarray(FIELD).save(folder / "images" / "=1+1.png")
    Image.fromarray(np.dstack([FIELD] * 3)).save(folder / "images" / "sub" / "NA.png")
    stack = np.stack([FIELD, FIELD[:, ::-1]])
    options = {"ome": True, "metadata": {"axes": "TYX", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5}}
    tifffile.imwrite(folder / "images" / "series.ome.tif", stack, **options)
    (folder / "images" / "broken.png").write_bytes(b"")
    done = run_script("nuclei-infer", folder / "images", "--out", folder / "results")
    assert done.returncode == 1, done.stderr
    return folder


def test_each_image_is_opened_with_its_labels_and_its_rows(run: Path) -> None:
    reader = get_reader(str(run / "results"))
    assert reader is not None
    layers = reader(str(run / "results"))
    assert [kind for _, _, kind in layers] == ["image", "labels"] * 4
    assert [arguments["visible"] for _, arguments, _ in layers] == [True] * 2 + [False] * 6
    by_name = {arguments["name"]: (data, arguments) for data, arguments, _ in layers}
    assert set(by_name) == {
        name + kind for name in ("=1+1", "series.ome_t000", "series.ome_t001", "sub/NA") for kind in ("", " nuclei")
    }
    with (run / "results" / "nuclei.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sum(len(arguments.get("features", ())) for _, arguments in by_name.values()) == len(rows)
    for name, where in (("=1+1", ("'=1+1.png", "")), ("series.ome_t001", ("series.ome.tif", "1"))):
        labels, arguments = by_name[f"{name} nuclei"]
        mine = [row for row in rows if (row["image"], row["time"]) == where]
        assert arguments["features"]["index"].tolist() == list(range(1, labels.max() + 1))
        assert arguments["features"]["area_px"].tolist() == [float(row["area_px"]) for row in mine]
    np.testing.assert_array_equal(by_name["series.ome_t001"][0], FIELD[:, ::-1])
    assert by_name["series.ome_t001"][1]["scale"] == (0.5, 0.25)
    assert "scale" not in by_name["=1+1"][1]
    assert by_name["sub/NA"][1]["rgb"]


def test_a_result_can_be_corrected_and_saved(run: Path, tmp_path: Path) -> None:
    plane = next(plane for plane in list_planes(run / "results") if plane.name == "series.ome_t001")
    _, (labels, arguments, _) = open_plane(plane)
    corrected = np.where(labels == 1, 0, labels)
    (saved,) = save_corrections(tmp_path, arguments["metadata"][ORIGIN], corrected)
    assert (saved.changes.removed, saved.changes.added) == (1, 0)
    np.testing.assert_array_equal(read_image(tmp_path / "images" / f"{saved.name}.tif"), FIELD[:, ::-1])


def test_images_and_results_can_be_moved_together_and_labels_open_without_their_image(
    run: Path, tmp_path: Path
) -> None:
    shutil.copytree(run, tmp_path / "moved")
    first = list_planes(tmp_path / "moved" / "results")[0]
    assert [kind for _, _, kind in open_plane(first)] == ["image", "labels"]
    Image.fromarray(FIELD[:50]).save(tmp_path / "moved" / "images" / "=1+1.png")  # another image now
    assert [kind for _, _, kind in open_plane(first)] == ["labels"]
    shutil.rmtree(tmp_path / "moved" / "images")
    ((_, arguments, kind),) = open_plane(first)
    assert kind == "labels"
    assert ORIGIN not in arguments.get("metadata", {})
    (tmp_path / "moved" / "results" / "nuclei.csv").unlink()
    ((_, arguments, _),) = open_plane(first)
    assert len(arguments["features"]) == 0


def test_tables_with_semicolons_are_read_too(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    results = tmp_path / "run" / "results"
    comma = {plane.name: open_plane(plane)[1][1]["features"] for plane in list_planes(results)}
    for name in ("images.csv", "nuclei.csv"):
        with (results / name).open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
        with (results / name).open("w", encoding="utf-8-sig", newline="") as file:
            csv.writer(file, delimiter=";").writerows(
                [cell.replace(".", ",") if NUMBER.fullmatch(cell) else cell for cell in row] for row in rows
            )
    for plane in list_planes(results):
        layers = open_plane(plane)
        assert layers[1][1]["features"].equals(comma[plane.name])


def test_a_semicolon_in_the_name_of_a_channel_separates_nothing(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    results = tmp_path / "run" / "results"
    header, *rows = (results / "nuclei.csv").read_text(encoding="utf-8").splitlines()
    table = [f"{header},intensity_mean:A;B", *(f"{row},1.5" for row in rows)]
    (results / "nuclei.csv").write_text("\n".join(table), encoding="utf-8")
    for plane in list_planes(results):
        features = open_plane(plane)[1][1]["features"]
        assert set(features["intensity_mean:A;B"].dropna()) <= {1.5}


def test_what_is_no_result_is_left_to_others_or_named(run: Path, tmp_path: Path) -> None:
    assert get_reader(str(run / "images")) is None
    assert get_reader(str(run / "images" / "=1+1.png")) is None
    assert get_reader([str(run / "results")]) is None
    assert get_reader(str(run / "results" / "images.csv")) is read_results
    with pytest.raises(FolderError, match=r"not a results folder of nuclei-infer; expected images\.csv"):
        list_planes(tmp_path)
    shutil.copytree(run / "results", tmp_path / "results")
    plane = list_planes(tmp_path / "results")[0]
    (tmp_path / "results" / plane.row["labels"]).write_bytes(b"no TIFF")
    with pytest.raises(FolderError, match=r"cannot be read: .*; segment the image again"):
        open_plane(plane)


def test_a_run_without_label_images_says_so(run: Path, tmp_path: Path, run_here: Callable[..., Any]) -> None:
    image, out = run / "images" / "=1+1.png", tmp_path / "out"
    assert run_here("nuclei-infer", image, "--out", out, "--save", "table").returncode == 0
    with pytest.raises(FolderError, match="none of its images has a label image"):
        list_planes(out)


def test_a_large_run_is_not_opened_all_at_once(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "results", tmp_path / "results")
    lines = (tmp_path / "results" / "images.csv").read_text(encoding="utf-8").splitlines()
    (tmp_path / "results" / "images.csv").write_text("\n".join([lines[0], *lines[1:2] * 30]), encoding="utf-8")
    with pytest.raises(FolderError, match=f"at most {MAX_AT_ONCE} are opened together"):
        read_results(str(tmp_path / "results"))


def test_a_labels_layer_is_written_as_a_run_writes_it(tmp_path: Path) -> None:
    pint = pytest.importorskip("pint", reason="NOT RUN: pint is not installed")
    labels = np.where(FIELD > 120, 7, 0)[np.newaxis]
    units = (pint.Unit("second"), pint.Unit("mm"), pint.Unit("mm"))
    path = str(tmp_path / "a.tif")
    assert write_label_image(path, labels, {"scale": (1, 0.0005, 0.0005), "units": units}) == [path]
    save_labels(tmp_path / "b.tif", labels[0], (0.5, 0.5))
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()
    with pytest.raises(LayerError, match=r"found labels of shape \(2, .*, expected one plane"):
        write_label_image(path, np.concatenate([labels, labels]), {})
