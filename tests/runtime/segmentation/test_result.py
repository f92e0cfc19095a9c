"""What a segmentation provides: its table is that of nuclei.csv, and its outlines match its labels."""

from __future__ import annotations

import copy
import csv
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from nuclei_runtime import Contrast, ImageShapeError, ImageValueError, Segmentation, Segmenter
from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.runs.config import RunConfig
from nuclei_runtime.runs.run import FolderRun
from nuclei_runtime.steps.outlines import trace_outlines
from nuclei_runtime.steps.percentiles import percentile_limits

FIELD, _ = fluorescence_field(11, height=128, width=128, n_nuclei=9)
IMAGES = {"grey": FIELD.astype(np.uint16) * 11, "colour": np.dstack([FIELD, FIELD // 2, FIELD // 3])}


@pytest.fixture(scope="module")
def segmenter(tiled_model: Path) -> Segmenter:
    return Segmenter(tiled_model, threads=1)


@pytest.mark.parametrize("kind", IMAGES)
def test_the_table_is_that_of_nuclei_csv(segmenter: Segmenter, kind: str, tmp_path: Path) -> None:
    image = IMAGES[kind]
    tifffile.imwrite(tmp_path / "image.tif", image, photometric="rgb" if image.ndim == 3 else "minisblack")
    config = RunConfig((str(tmp_path / "image.tif"),), tmp_path / "out", segmenter.options)
    with FolderRun(config) as run:
        assert all(outcome.is_ok for outcome in run.outcomes())
    with (tmp_path / "out" / "nuclei.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    result = segmenter.segment(image)
    assert result.count == len(rows) > 4

    table = result.table(image)
    columns = list(rows[0])
    assert list(table) == columns[columns.index("label") : columns.index("intensity_sd") + 1]
    for name, values in table.items():
        assert values.shape == (result.count,)
        written = [float({"true": "1", "false": "0"}.get(row[name], row[name])) for row in rows]
        np.testing.assert_allclose(values, written, rtol=1e-7, atol=1e-7)


def test_lengths_are_in_micrometres_too_if_the_size_of_a_pixel_is_given(segmenter: Segmenter) -> None:
    result = segmenter.segment(FIELD)
    table = result.table(FIELD, (0.5, 0.5))
    np.testing.assert_allclose(table["area_um2"], table["area_px"] / 4)
    np.testing.assert_allclose(table["major_axis_um"], table["major_axis_px"] / 2)
    assert set(table) - set(result.table(FIELD)) == {name for name in table if name.endswith(("_um", "_um2"))}


def test_a_channel_needs_a_name(segmenter: Segmenter) -> None:
    image = fluorescence_field(3, height=128, width=128)[0]
    with pytest.raises(ValueError, match="channels must have names, found ''"):
        segmenter.segment(image).table(image, channels={"": image})


def test_an_image_without_nuclei_has_the_same_columns(segmenter: Segmenter) -> None:
    blank = np.zeros((40, 50), np.uint8)
    result = segmenter.segment(blank)
    table, full = result.table(blank), segmenter.segment(FIELD).table(FIELD)
    assert list(table) == list(full)
    assert [(column.shape, column.dtype) for column in table.values()] == [((0,), one.dtype) for one in full.values()]
    assert result.outlines() == []


@pytest.mark.parametrize("copied", [lambda one: pickle.loads(pickle.dumps(one)), copy.deepcopy], ids=["pickle", "copy"])
def test_a_copy_cannot_be_changed_either(segmenter: Segmenter, copied: Callable[[Segmentation], Segmentation]) -> None:
    result = segmenter.segment(FIELD)
    other = copied(result)
    np.testing.assert_array_equal(other.labels, result.labels)
    with pytest.raises(ValueError, match="read-only"):
        other.labels[0, 0] = 1


def test_another_image_is_refused(segmenter: Segmenter) -> None:
    result = segmenter.segment(FIELD)
    with pytest.raises(ImageShapeError, match="found an image of 128 x 127 pixels, expected 128 x 128"):
        result.table(FIELD[:, 1:])
    with pytest.raises(ImageValueError, match="NaN"):
        result.table(np.full((128, 128), np.nan))


def test_the_outlines_are_those_of_the_labels(segmenter: Segmenter) -> None:
    result = segmenter.segment(FIELD)
    for outline, expected in zip(result.outlines(), trace_outlines(result.labels), strict=True):
        np.testing.assert_array_equal(outline, expected)


def test_the_contrast_is_that_of_the_network_and_is_kept_in_copies(segmenter: Segmenter, tiny_model: Path) -> None:
    image = IMAGES["grey"]
    result = segmenter.segment(image)
    assert isinstance(result.contrast, Contrast)
    assert image.min() <= result.contrast.low < result.contrast.high <= image.max()
    assert pickle.loads(pickle.dumps(result)).contrast == result.contrast
    (maps,) = segmenter.predict([image])
    assert segmenter.find_instances(maps).contrast is None
    whole = Segmenter(tiny_model).segment(image).contrast
    assert whole is not None
    assert (whole.low, whole.high) == percentile_limits(image, 1.0, 99.8)
    assert whole.structure is None
