"""Samples -> the arrays of the recipe `baseline`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nuclei_runtime.steps.step import Step
from nuclei_train.data.finding import open_data
from nuclei_train.data.samples import Dataset
from nuclei_train.errors import DatasetError
from nuclei_train.recipes.baseline_arrays import load_images, load_truth

STEPS = (
    Step("percentile_normalisation", {"lower": 1.0, "upper": 99.8}),
    Step("resize", {"height": 128, "width": 128}),
)


@pytest.fixture
def dataset(make_dsb_zip: Callable[..., Path], tmp_path: Path) -> Dataset:
    return open_data(make_dsb_zip(tmp_path / "stage1_train.zip", range(20)))[0]


def nothing() -> None:
    pass


def test_arrays_have_the_asked_shapes_and_keep_the_area(dataset: Dataset) -> None:
    arrays = load_truth(dataset.samples, STEPS, 128, nothing)
    assert arrays.images.shape == (20, 128, 128, 3)
    assert arrays.images.dtype == np.float32
    assert arrays.foreground.shape == (20, 128, 128, 1)
    assert arrays.foreground.dtype == bool
    assert arrays.images.min() == 0
    assert 0.9 < arrays.images.max() <= 1
    share = [np.mean(sample.read_labels() > 0) for sample in dataset.samples]
    np.testing.assert_allclose(arrays.foreground.mean(axis=(1, 2, 3)), share, rtol=0.08)
    assert arrays.areas_px.sum() == sum(np.count_nonzero(sample.read_labels()) for sample in dataset.samples)
    np.testing.assert_array_equal(load_images(dataset.samples, STEPS, nothing), arrays.images)


def test_a_shrunk_mask_keeps_its_area(make_dsb_zip: Callable[..., Path], tmp_path: Path) -> None:
    """From about the size of most images of the Data Science Bowl."""
    (dataset,) = open_data(make_dsb_zip(tmp_path / "large.zip", range(3), size=(256, 320)))
    arrays = load_truth(dataset.samples, STEPS, 128, nothing)
    share = [np.mean(sample.read_labels() > 0) for sample in dataset.samples]
    np.testing.assert_allclose(arrays.foreground.mean(axis=(1, 2, 3)), share, rtol=0.05)


def test_the_foreground_lies_where_the_image_is_bright(dataset: Dataset) -> None:
    arrays = load_truth(dataset.samples, STEPS, 128, nothing)
    inside = arrays.foreground[..., 0]
    grey = arrays.images.mean(axis=-1)
    assert grey[inside].mean() > grey[~inside].mean() + 0.3


def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "stage1_train" / "broken"
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    (folder / "images" / "broken.png").write_bytes(b"")
    (folder / "masks" / "one.png").write_bytes(b"")
    (dataset,) = open_data(tmp_path)
    with pytest.raises(DatasetError, match=r"^broken: .*empty.*nuclei-explore"):
        load_truth(dataset.samples, STEPS, 128, nothing)
