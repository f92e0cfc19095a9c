"""Which images are fitted and which are used for validation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nuclei_train.data.finding import open_data
from nuclei_train.data.samples import Dataset
from nuclei_train.data.split import split_samples
from nuclei_train.data.split_table import read_split_table
from nuclei_train.errors import DatasetError


@pytest.fixture
def dataset(make_dsb_zip: Callable[..., Path], tmp_path: Path) -> Dataset:
    return open_data(make_dsb_zip(tmp_path / "stage1_train.zip", range(20)))[0]


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
    (tmp_path / "splits.csv").write_text("\n".join(["image_id,modality,split", *rows]) + "\n")
    table = read_split_table(tmp_path)
    split = split_samples(dataset, table, 42, 0.1)
    assert split.source == "splits.csv"
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
    (tmp_path / "splits.csv").write_text("\n".join(["image_id,modality,split", *rows]) + "\n")
    with pytest.raises(DatasetError, match=r"20 images to fit and 0 to validate.*column split of .*splits\.csv"):
        split_samples(dataset, read_split_table(tmp_path), 42, 0.1)
