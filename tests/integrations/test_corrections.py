"""Corrected labels are saved in the form that training and measuring take."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from nuclei_napari.corrections import Origin, save_corrections
from nuclei_napari.errors import FolderError, LayerError
from nuclei_napari.layer_planes import LayerPlane
from nuclei_runtime import Selection, open_planes, plane_of, read_image
from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.runs.config import RunConfig
from nuclei_runtime.runs.run import FolderRun
from nuclei_train.data.finding import open_data

FIELD, LABELS = fluorescence_field(5, height=96, width=128, n_nuclei=9)
N = int(LABELS.max())


def origin_of(image: NDArray, name: str = "field", size: tuple[float, float] | None = None) -> Origin:
    return Origin(name, (LayerPlane(replace(plane_of(image), pixel_size_um=size), (), {}),), LABELS)


def changes_in(folder: Path) -> list[dict[str, str]]:
    with (folder / "label_changes.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_measuring_takes_what_was_saved(tmp_path: Path) -> None:
    corrected = np.where(LABELS == 2, 0, LABELS)
    corrected[LABELS == N] = 70_000
    folder = tmp_path / "corrected"
    save_corrections(folder, origin_of(FIELD, size=(0.5, 0.25)), corrected)
    config = RunConfig((str(folder / "images"),), tmp_path / "measured", labels=folder / "masks")
    with FolderRun(config) as run:
        (outcome,) = run.outcomes()
    assert (outcome.is_ok, outcome.planes[0].n_nuclei) == (True, N - 1)
    with (tmp_path / "measured/nuclei.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    numbers, areas = np.unique(corrected[corrected > 0], return_counts=True)
    assert [(int(row["label"]), int(row["area_px"])) for row in rows] == list(zip(numbers, areas, strict=True))
    assert [float(row["area_um2"]) for row in rows] == [area / 8 for area in areas]


def test_training_takes_what_was_saved(tmp_path: Path) -> None:
    corrected = np.where(LABELS == 2, 0, LABELS)
    corrected[LABELS == N] = 70_000
    save_corrections(tmp_path / "corrected", origin_of(FIELD, size=(0.5, 0.25)), corrected)
    (dataset,) = open_data(tmp_path / "corrected")
    (sample,) = dataset.samples
    np.testing.assert_array_equal(sample.read_image(), FIELD)
    read = sample.read_labels()
    np.testing.assert_array_equal(read > 0, corrected > 0)
    assert read.max() == N - 1
    for folder in ("images", "masks"):
        with open_planes(tmp_path / "corrected" / folder / "field.tif", Selection()) as (plane,):
            assert plane.pixel_size_um == pytest.approx((0.5, 0.25))


def test_the_table_has_one_row_for_each_image_however_often_it_is_saved(tmp_path: Path) -> None:
    save_corrections(tmp_path, origin_of(FIELD), LABELS)
    save_corrections(tmp_path, origin_of(FIELD + 1, "another"), LABELS)
    merged = np.where(LABELS == 2, 1, LABELS)
    (saved,) = save_corrections(tmp_path, origin_of(FIELD), np.where(LABELS == 3, 0, merged))
    assert saved.in_pieces == ((1,) if saved.changes.merged else ())
    rows = changes_in(tmp_path)
    assert [row["image"] for row in rows] == ["another.tif", "field.tif"]
    assert rows[0]["unchanged"] == str(N)
    assert (rows[1]["removed"], rows[1]["before"], rows[1]["after"]) == ("1", str(N), str(N - 2))


def test_each_plane_of_a_stack_is_saved(tmp_path: Path) -> None:
    planes = tuple(LayerPlane(plane_of(FIELD + at), (at, 0), {"time": at, "z": 4}) for at in range(2))
    labels = np.stack([LABELS, np.where(LABELS, LABELS + N, 0)])[:, np.newaxis]
    saved = save_corrections(tmp_path, Origin("stack", planes, labels), labels)
    assert [one.name for one in saved] == ["stack_t000_z004", "stack_t001_z004"]
    assert tifffile.imread(tmp_path / "masks" / "stack_t001_z004.tif").max() == 2 * N
    np.testing.assert_array_equal(read_image(tmp_path / "images" / "stack_t001_z004.tif"), FIELD + 1)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "uint16", "int32", "float16", "float32", "float64"])
@pytest.mark.parametrize("channels", [0, 3, 4])
def test_every_kind_of_image_is_read_again_as_it_was(tmp_path: Path, dtype: str, channels: int) -> None:
    image = (FIELD > 90 if dtype == "bool" else FIELD / 2).astype(dtype)
    image = np.dstack([image] * channels) if channels else image
    for _ in range(2):  # the second time it is compared with the file
        save_corrections(tmp_path, origin_of(image), LABELS)
    np.testing.assert_array_equal(read_image(tmp_path / "images" / "field.tif"), image)


def test_another_image_of_the_same_name_is_not_replaced(tmp_path: Path) -> None:
    save_corrections(tmp_path, origin_of(FIELD), LABELS)
    with pytest.raises(FolderError, match="already holds another image; rename the image layer"):
        save_corrections(tmp_path, origin_of(FIELD + 1), LABELS * 0)
    assert tifffile.imread(tmp_path / "masks" / "field.tif").max() == N


@pytest.mark.parametrize("name", ["a/b", "..", "con?", "", "x" * 300, 'a:"b"'])
def test_every_layer_name_gives_a_file_name(tmp_path: Path, name: str) -> None:
    (saved,) = save_corrections(tmp_path / "out", origin_of(FIELD, name), LABELS)
    assert (tmp_path / "out" / "masks" / f"{saved.name}.tif").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_cannot_be_saved_is_named(tmp_path: Path) -> None:
    with pytest.raises(LayerError, match=r"expected .* as they were made for field"):
        save_corrections(tmp_path / "out", origin_of(FIELD), LABELS[:20])
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderError, match="cannot be written"):
        save_corrections(tmp_path / "file", origin_of(FIELD), LABELS)
    (tmp_path / "label_changes.csv").write_text("mine\n1\n")
    with pytest.raises(FolderError, match="not a table of corrections"):
        save_corrections(tmp_path, origin_of(FIELD), LABELS)
    assert (tmp_path / "label_changes.csv").read_text() == "mine\n1\n"
