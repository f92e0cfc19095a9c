"""What --save writes: as the installed command, and through the machinery of the results folder."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from functools import reduce
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

import numpy as np
import openpyxl
import pytest
import shapely
import tifffile
import zarr
from pyarrow import parquet
from read_roi import read_roi_zip

from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.cli.saving import DEFAULT_OVERLAY, DEFAULT_SAVE, CsvStyleName, output_options
from nuclei_runtime.errors import InputsError, MissingExtraError
from nuclei_runtime.results.layout import token_of
from nuclei_runtime.results.table_formats import TableOptions
from nuclei_runtime.runs import saving
from nuclei_runtime.runs.saving import SAVED, parse_saved
from nuclei_runtime.writers.csv_style import CsvStyle
from nuclei_runtime.writers.outputs import OutputOptions
from tests.contents import contents

INFER = shutil.which("nuclei-infer", path=str(Path(sys.executable).parent)) or "nuclei-infer"
PLANES = ("a", "series.ome_t000", "series.ome_t001")


def infer(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONIOENCODING": "utf-8"}
    return subprocess.run(
        [INFER, *map(str, arguments)], capture_output=True, text=True, encoding="utf-8", env=environment, check=False
    )


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image and a time series of two."""
    folder = tmp_path_factory.mktemp("images")
    planes = [fluorescence_field(seed, height=96, width=120, n_nuclei=8)[0] for seed in range(3)]
    tifffile.imwrite(folder / "a.tif", planes[0])
    tifffile.imwrite(
        folder / "series.ome.tif",
        np.stack(planes[1:]),
        metadata={"axes": "TYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5},
    )
    return folder


@pytest.fixture(scope="module")
def everything(images: Path, tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """The results of a run that saves everything."""
    out = tmp_path_factory.mktemp("everything") / "out"
    done = infer(images, "--out", out, "--model", tiny_model, "--save", ",".join(SAVED))
    assert done.returncode == 0, done.stderr
    assert (
        "labels, overlays, geojson, roi, ome-zarr, nuclei.csv, nuclei.parquet, nuclei.xlsx, images.csv" in done.stdout
    )
    return out


def test_every_format_has_the_same_nuclei_under_the_same_numbers(everything: Path) -> None:
    with (everything / "nuclei.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    frame = parquet.read_table(everything / "nuclei.parquet")
    assert frame.column_names == list(rows[0])
    assert frame["label"].to_pylist() == [int(row["label"]) for row in rows]
    assert frame["area_px"].to_pylist() == [float(row["area_px"]) for row in rows]
    sheet = openpyxl.load_workbook(everything / "nuclei.xlsx")["nuclei"]
    names, *cells = sheet.iter_rows(values_only=True)
    assert [row[names.index("area_um2")] for row in cells] == frame["area_um2"].to_pylist()
    for plane in PLANES:
        labels = tifffile.imread(everything / f"labels/{plane}.tif")
        assert labels.max() >= 3
        np.testing.assert_array_equal(zarr.open_group(everything / f"ome-zarr/{plane}.ome.zarr", mode="r")["0"], labels)
        rois = read_roi_zip(everything / f"roi/{plane}.zip")
        features = json.loads((everything / f"geojson/{plane}.geojson").read_text())["features"]
        assert [feature["properties"]["name"] for feature in features] == list(rois)
        for feature in features:
            number = int(feature["properties"]["name"])
            roi = rois[str(number)]
            rings = roi["paths"] if roi["type"] == "composite" else [list(zip(roi["x"], roi["y"], strict=True))]
            geometry = shapely.from_geojson(json.dumps(feature["geometry"]))
            assert geometry.equals(reduce(shapely.symmetric_difference, map(shapely.Polygon, rings)))
            assert geometry.area == (labels == number).sum() == feature["properties"]["measurements"]["area_px"]


def test_every_file_is_in_the_record_and_verified_and_made_again(
    images: Path, everything: Path, tiny_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(everything, out)
    arguments = (images, "--out", out, "--model", tiny_model, "--save", ",".join(SAVED))
    whole = contents(out)
    record = json.loads(whole[f"records/{token_of('a.tif')}.json"])
    of_a = {name for name in whole if name.split("/")[-1].startswith("a.") or "/a." in name}
    assert set(record["results"]) == of_a
    assert [name for name in record["results"] if "zarr" in name] == [
        f"ome-zarr/a.ome.zarr/{name}" for name in ("0/c/0/0", "0/zarr.json", "zarr.json")
    ]
    assert infer(*arguments, "--verify").returncode == 0
    (out / "ome-zarr/a.ome.zarr/0/c/0/0").unlink()
    (out / "nuclei.parquet").unlink()
    done = infer(*arguments, "--verify")
    assert done.returncode == 1
    assert "ome-zarr/a.ome.zarr/0/c/0/0 is missing or damaged" in done.stdout
    assert "differs: nuclei.parquet" in done.stdout
    done = infer(*arguments, "--resume")
    assert (done.returncode, done.stderr) == (
        0,
        "segmented again: a.tif: ome-zarr/a.ome.zarr/0/c/0/0 is missing or damaged\n",
    )
    assert contents(out) == whole


def test_what_is_not_saved_any_more_is_removed(
    images: Path, everything: Path, tiny_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(everything, out)
    (out / "roi/mine.zip").write_bytes(b"mine")
    done = infer(images, "--out", out, "--model", tiny_model, "--save", "geojson,table", "--resume")
    assert done.returncode == 0, done.stderr
    left = contents(out)
    folders = {name.split("/")[0] for name in left if "/" in name}
    assert folders == {"geojson", "tables", "records", "roi"}
    assert left["roi/mine.zip"] == b"mine"
    assert {name for name in left if "/" not in name} == {"nuclei.csv", "images.csv", "summary.csv", "provenance.json"}
    with (out / "images.csv").open(encoding="utf-8", newline="") as file:
        assert {row["labels"] for row in csv.DictReader(file)} == {""}


def test_another_table_format_or_style_segments_nothing_again(
    images: Path, everything: Path, tiny_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(everything, out)
    saved = ",".join(word for word in SAVED if word != "parquet")
    arguments = (images, "--out", out, "--model", tiny_model, "--save", saved, "--csv-style", "semicolon")
    done = infer(*arguments, "--resume")
    assert (done.returncode, done.stderr) == (0, "")
    assert "(2 done before)" in done.stdout
    assert not (out / "nuclei.parquet").exists()
    for name in ("nuclei.csv", "images.csv"):
        assert (out / name).read_bytes().startswith(b"\xef\xbb\xbfimage;")
    assert json.loads((out / "provenance.json").read_text())["tables"]["csv_style"] == "semicolon"
    assert infer(*arguments, "--verify").returncode == 0
    assert infer(*arguments, "--resume").returncode == 0


def test_without_the_option_everything_has_its_default() -> None:
    assert output_options(DEFAULT_SAVE, DEFAULT_OVERLAY, CsvStyleName.COMMA) == (OutputOptions(), TableOptions())
    assert [style.value for style in CsvStyleName] == list(get_args(CsvStyle))


def test_words_that_are_no_output_are_refused_with_the_list(tmp_path: Path) -> None:
    for text in ("", "labels,", "labels,cells", "GeoJSON"):
        with pytest.raises(
            InputsError, match="expected one or more of: labels, overlays, geojson, roi, ome-zarr, table"
        ):
            parse_saved(text)
    done = infer(tmp_path, "--out", tmp_path / "out", "--save", "table", "--overlay", "natural")
    assert done.returncode == 2
    assert "no overlays are written; add overlays to --save" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("word", "package"), [("roi", "roifile"), ("ome-zarr", "zarr"), ("parquet", "pyarrow"), ("xlsx", "xlsxwriter")]
)
def test_a_missing_package_is_named_with_its_line(monkeypatch: pytest.MonkeyPatch, word: str, package: str) -> None:
    monkeypatch.setattr(saving, "find_spec", lambda name: None if name == package else find_spec(name))
    with pytest.raises(MissingExtraError, match=rf'{package} is not installed.*pip install "nuclei-edge\[formats\]"'):
        parse_saved(f"labels,{word}")
    parse_saved("labels,overlays,table,geojson")
