"""The stream of crops: batch i is always the same batch i."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_train.batches.augment import Augmentation
from nuclei_train.batches.crops import RandomCrops
from nuclei_train.batches.targets import TARGETS, target_maps

FIELDS = [fluorescence_field(seed, height=70 + 20 * seed, width=90, n_nuclei=8) for seed in range(3)]
STILL = Augmentation(scale=(1.0, 1.0), rotate=False, light=False, stain=False)


def crops(**changes: Any) -> RandomCrops:
    options = {"batch_size": 4, "crop_px": 48, "seed": 42, "first_batch": 0, "augmentation": Augmentation()}
    shares = np.asarray(changes.pop("shares", [1.0, 1.0, 1.0]))
    images = changes.pop("images", [np.repeat(image[..., np.newaxis], 3, axis=-1) for image, _ in FIELDS])
    return RandomCrops(images, [labels for _, labels in FIELDS], shares, **{**options, **changes})


def same(one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> bool:
    return all(np.array_equal(left, right) for left, right in zip(one, other, strict=True))


def test_a_batch_depends_on_the_seed_and_its_number_alone() -> None:
    stream = crops()
    batches = [stream[index] for index in range(6)]
    for index in (5, 0, 3):  # in another order, from another start
        assert same(crops()[index], batches[index])
        assert same(crops(first_batch=index)[0], batches[index])
    assert not same(batches[0], batches[1])
    assert not same(crops(seed=43)[0], batches[0])
    assert not np.array_equal(batches[0][0][0], batches[0][0][1])


def test_the_stream_has_no_end() -> None:
    assert crops().num_batches is None
    assert crops()[10**9][0].shape == (4, 48, 48, 3)


@pytest.mark.parametrize("index", range(8))
def test_a_batch_is_what_the_network_takes(index: int) -> None:
    images, maps = crops()[index]
    assert images.shape == (4, 48, 48, 3)
    assert maps.shape == (4, 48, 48, len(TARGETS) + 1)
    assert images.dtype == maps.dtype == np.float32
    assert np.isfinite(images).all()
    assert np.isfinite(maps).all()
    assert 0 <= images.min() <= images.max() <= 1
    for channel in (0, 2, 5):
        assert set(np.unique(maps[..., channel])) <= {0, 1}
    assert 0 <= maps[..., 1].min() <= maps[..., 1].max() <= 1
    assert np.abs(maps[..., 3:5]).max() < 4
    assert not maps[..., :5][maps[..., 5] == 0].any()


def test_the_maps_are_those_of_the_crop() -> None:
    images = [np.repeat(np.where(labels > 0, 255, 0).astype(np.uint8)[..., np.newaxis], 3, -1) for _, labels in FIELDS]
    pictures, maps = crops(images=images, augmentation=Augmentation(light=False, stain=False))[0]
    inside = maps[..., 0] == 1
    assert (pictures[inside] >= 0.249).all()
    assert (pictures[~inside & (maps[..., 5] == 1)] <= 0.751).all()
    assert inside.mean() > 0.05


def test_beyond_the_image_nothing_counts() -> None:
    _, maps = crops(crop_px=256, augmentation=STILL)[0]
    areas = np.array([labels.size for _, labels in FIELDS])
    for counted in maps[..., 5].sum(axis=(1, 2)):
        assert np.abs(counted / areas - 1).min() < 0.03


def test_images_are_drawn_by_their_shares() -> None:
    plain = [
        np.full((*labels.shape, 3), value, np.uint8) for value, (_, labels) in zip((0, 102, 255), FIELDS, strict=True)
    ]
    stream = crops(images=plain, shares=[0.0, 3.0, 1.0], batch_size=50, crop_px=16, augmentation=STILL)
    values = np.concatenate([stream[index][0].mean(axis=(1, 2, 3)) for index in range(8)])
    np.testing.assert_allclose(np.unique(np.round(values, 3)), [0.4, 1.0], atol=1e-6)
    assert np.mean(values > 0.5) == pytest.approx(0.25, abs=0.07)


def test_a_crop_without_nuclei_is_a_crop() -> None:
    stream = RandomCrops(
        [np.zeros((30, 30, 3), np.uint8)],
        [np.zeros((30, 30), np.int32)],
        np.ones(1),
        batch_size=2,
        crop_px=64,
        seed=0,
        first_batch=0,
        augmentation=Augmentation(),
    )
    images, maps = stream[0]
    assert np.isfinite(images).all()
    assert not maps[..., :5].any()
    np.testing.assert_array_equal(target_maps(np.zeros((64, 64), np.int32)), maps[0, ..., :5])


def test_no_random_number_lies_beyond_the_last_image() -> None:
    """The sum of many shares is not exactly 1."""
    stream = crops(shares=[1 / 3, 1 / 3 - 1e-9, 0.1])
    assert stream._cumulative[-1] == 1
