"""Samples -> arrays, batches and splits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nuclei_runtime.steps.step import Step
from nuclei_train.batches.batches import ShuffledBatches
from nuclei_train.data.arrays import load_images, load_truth
from nuclei_train.data.dsb2018 import open_data
from nuclei_train.data.samples import Dataset
from nuclei_train.data.split import split_samples
from nuclei_train.data.split_table import read_split_table
from nuclei_train.errors import DatasetError

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
    """From the size that most images of the Data Science Bowl have, or nearly so."""
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


def test_the_random_split_is_seeded_disjoint_and_a_tenth(dataset: Dataset) -> None:
    one, other, third = (split_samples(dataset, None, seed, 0.1) for seed in (42, 42, 43))
    ids = [sample.image_id for sample in one.val]
    assert ids == [sample.image_id for sample in other.val]
    assert ids != [sample.image_id for sample in third.val]
    assert len(one.val) == 2
    assert len(one.train) == 18
    assert not set(ids) & {sample.image_id for sample in one.train}
    assert one.digest == other.digest != third.digest


def test_with_a_table_test_and_stardist_are_left_alone(dataset: Dataset, tmp_path: Path) -> None:
    names = ["train", "val", "test", "stardist"]
    rows = [f"{sample.image_id},fluorescence,{names[i % 4]}" for i, sample in enumerate(dataset.samples)]
    (tmp_path / "images.csv").write_text("\n".join(["image_id,modality,split", *rows]) + "\n")
    table = read_split_table(tmp_path)
    split = split_samples(dataset, table, 42, 0.1)
    assert split.source == "images.csv"
    wanted = {
        name: [s.image_id for i, s in enumerate(dataset.samples) if names[i % 4] == name] for name in ("train", "val")
    }
    assert [s.image_id for s in split.train] == wanted["train"]
    assert [s.image_id for s in split.val] == wanted["val"]


def test_images_without_masks_are_on_no_side(
    make_dsb_zip: Callable[..., Path], dataset: Dataset, tmp_path: Path
) -> None:
    (unmasked,) = open_data(make_dsb_zip(tmp_path / "stage1_test.zip", [50, 51], with_masks=False))
    mixed = Dataset("mixed", tmp_path, (*unmasked.samples, *dataset.samples[:4]))
    split = split_samples(mixed, None, 42, 0.1)
    assert len(split.val) == 1
    assert {sample.image_id for sample in (*split.train, *split.val)} == {s.image_id for s in dataset.samples[:4]}
    with pytest.raises(DatasetError, match=r"0 images to fit and 1 to validate.*add images with masks"):
        split_samples(Dataset("one", tmp_path, dataset.samples[:1]), None, 42, 0.1)


def test_a_side_without_images_is_an_error(dataset: Dataset, tmp_path: Path) -> None:
    rows = [f"{sample.image_id},fluorescence,train" for sample in dataset.samples]
    (tmp_path / "images.csv").write_text("\n".join(["image_id,modality,split", *rows]) + "\n")
    with pytest.raises(DatasetError, match=r"20 images to fit and 0 to validate.*column split of .*images\.csv"):
        split_samples(dataset, read_split_table(tmp_path), 42, 0.1)


def batches(first_epoch: int, seed: int = 1) -> ShuffledBatches:
    images = np.arange(10, dtype=np.float32).reshape(10, 1, 1, 1)
    return ShuffledBatches(images, images > 4, batch_size=4, seed=seed, first_epoch=first_epoch)


def test_each_epoch_shows_each_image_once_in_its_own_order() -> None:
    stream = batches(0)
    assert stream.steps_per_epoch == 3
    epochs = [np.concatenate([stream[3 * epoch + step][0].ravel() for step in range(3)]) for epoch in range(3)]
    for order in epochs:
        assert sorted(order) == list(range(10))
    assert not np.array_equal(epochs[0], epochs[1])


def test_a_batch_depends_on_its_number_alone() -> None:
    late, resumed = batches(0), batches(2)
    for step in (4, 0, 2):
        np.testing.assert_array_equal(late[6 + step][0], resumed[step][0])
    assert not np.array_equal(late[0][0], batches(0, seed=2)[0][0])
    images, foreground = late[0]
    assert (images.dtype, foreground.dtype) == (np.float32, np.float32)
    np.testing.assert_array_equal(foreground, images > 4)
    assert [len(late[step][0]) for step in range(6)] == [4, 4, 2, 4, 4, 2]
