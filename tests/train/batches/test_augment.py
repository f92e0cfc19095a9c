"""Crops and their random changes: the labels move with the image, and the values stay in their range."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_train.batches.augment import Augmentation, random_appearance, random_crop

LABELS = fluorescence_field(6, height=120, width=150, n_nuclei=16)[1]
BRIGHT = np.repeat(np.where(LABELS > 0, 255, 0).astype(np.uint8)[..., np.newaxis], 3, axis=-1)
"""Nuclei are white and the rest is black."""

STILL = Augmentation(scale=(1.0, 1.0), rotate=False, light=False, stain=False)


@pytest.mark.parametrize("scale", [(1.0, 1.0), (0.5, 0.5), (2.0, 2.0), (0.7, 1.6)])
@pytest.mark.parametrize("rotate", [False, True])
def test_the_labels_follow_the_image(scale: tuple[float, float], rotate: bool) -> None:
    augmentation = Augmentation(scale=scale, rotate=rotate)
    bright = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        image, labels, valid = random_crop(rng, BRIGHT, LABELS, 64, augmentation)
        assert image.shape == (64, 64, 3)
        assert (image.dtype, labels.dtype, valid.dtype) == (np.float32, np.int32, np.bool_)
        # The nearest pixel's share of a bilinear value is a quarter or more.
        assert (image[labels > 0] >= 0.249).all()
        assert (image[valid & (labels == 0)] <= 0.751).all()
        assert not labels[~valid].any()
        assert set(np.unique(labels)) <= set(range(LABELS.max() + 1))
        bright += np.count_nonzero(labels)
    assert bright > 5000


@pytest.mark.parametrize("scale", [0.8, 1.0, 1.5])
def test_areas_grow_with_the_square_of_the_scale(scale: float) -> None:
    """For a disk in the middle of a crop that extends beyond the image on all sides."""
    rows, columns = np.indices((101, 101))
    disk = (np.hypot(rows - 50, columns - 50) < 25).astype(np.int32)
    image = np.repeat(disk[..., np.newaxis] * 255, 3, axis=-1).astype(np.uint8)
    for seed in range(4):
        augmentation = Augmentation(scale=(scale, scale))
        _, labels, valid = random_crop(np.random.default_rng(seed), image, disk, 220, augmentation)
        assert np.count_nonzero(labels) == pytest.approx(disk.sum() * scale**2, rel=0.03)
        assert np.count_nonzero(valid) == pytest.approx((101 * scale) ** 2, rel=0.04)


def test_a_crop_that_only_moves_shows_a_part_of_the_image() -> None:
    """Each pixel is a nucleus of its own, so each pixel of the crop shows where it comes from."""
    height, width, size = 40, 50, 24
    numbered = np.arange(1, height * width + 1, dtype=np.int32).reshape(height, width)
    orientations, corners = set(), set()
    for seed in range(60):
        image = np.zeros((height, width, 3), np.uint8)
        _, labels, valid = random_crop(np.random.default_rng(seed), image, numbered, size, STILL)
        inner = labels[1:-1, 1:-1]
        assert valid[1:-1, 1:-1].all()
        rows, columns = np.divmod(inner - 1, width)
        down = rows[1, 0] - rows[0, 0], columns[1, 0] - columns[0, 0]
        right = rows[0, 1] - rows[0, 0], columns[0, 1] - columns[0, 0]
        assert {tuple(map(abs, down)), tuple(map(abs, right))} == {(0, 1), (1, 0)}
        np.testing.assert_array_equal(np.diff(rows, axis=0), down[0])
        np.testing.assert_array_equal(np.diff(columns, axis=1), right[1])
        orientations.add((down, right))
        corners.add((rows.min(), columns.min()))
    assert len(orientations) == 8
    assert len(corners) > 40


def test_beyond_the_image_it_is_mirrored_and_nothing_counts() -> None:
    image = np.full((30, 20, 3), 100, np.uint8)
    labels = np.ones((30, 20), np.int32)
    cropped, cropped_labels, valid = random_crop(np.random.default_rng(0), image, labels, 64, STILL)
    np.testing.assert_allclose(cropped, 100 / 255, atol=1e-6)
    np.testing.assert_array_equal(cropped_labels, valid)
    assert 29 * 19 <= np.count_nonzero(valid) <= 30 * 20
    rows, columns = np.nonzero(valid)
    assert np.ptp(rows) + 1 in (19, 20, 29, 30)
    assert (np.ptp(rows) + 1) * (np.ptp(columns) + 1) == np.count_nonzero(valid)  # one block in the middle
    assert abs(rows.mean() - 31.5) <= 1
    assert abs(columns.mean() - 31.5) <= 1


PICTURES = {
    "black": np.zeros((48, 48, 3)),
    "white": np.ones((48, 48, 3)),
    "grey": np.repeat(np.random.default_rng(1).random((48, 48, 1)), 3, axis=-1),
    "colour": np.random.default_rng(2).random((48, 48, 3)),
    "purple": np.random.default_rng(3).random((48, 48, 3)) * [0.9, 0.2, 0.9],
}


NO_NUCLEI = np.zeros((48, 48), np.int32)


@pytest.mark.parametrize("kind", PICTURES)
def test_light_and_stain_stay_in_range(kind: str) -> None:
    picture = PICTURES[kind].astype(np.float32)
    before = picture.copy()
    kinds = set()
    for seed in range(60):
        changed = random_appearance(np.random.default_rng(seed), picture, NO_NUCLEI, Augmentation(appearance_share=1.0))
        assert changed.shape == picture.shape
        assert changed.dtype == np.float32
        assert np.isfinite(changed).all()
        assert 0 <= changed.min() <= changed.max() <= 1
        kinds.add(changed.tobytes())
    assert len(kinds) > 20
    np.testing.assert_array_equal(picture, before)


def test_only_grey_becomes_its_negative() -> None:
    """In colour, bright spots are gaps in the tissue."""
    picture = PICTURES["purple"].astype(np.float32)
    stain = Augmentation(light=False, appearance_share=1.0)
    for seed in range(200):
        changed = random_appearance(np.random.default_rng(seed), picture, NO_NUCLEI, stain)
        if np.ptp(changed, axis=-1).max() > 1e-6:
            assert np.corrcoef(changed.sum(axis=-1).ravel(), picture.sum(axis=-1).ravel())[0, 1] > 0


def grey_share(pictures: list[NDArray[np.float32]]) -> float:
    return float(np.mean([np.ptp(picture, axis=-1).max() < 1e-6 for picture in pictures]))


def test_stain_makes_colour_grey_and_grey_coloured_at_times() -> None:
    stain = Augmentation(light=False, appearance_share=1.0)
    rngs = [np.random.default_rng(seed) for seed in range(200)]
    coloured = [random_appearance(rng, PICTURES["purple"].astype(np.float32), NO_NUCLEI, stain) for rng in rngs]
    assert 0.05 < grey_share(coloured) < 0.3
    grey = [random_appearance(rng, PICTURES["grey"].astype(np.float32), NO_NUCLEI, stain) for rng in rngs]
    assert 0.6 < grey_share(grey) < 0.9
    inverted = [np.corrcoef(one.mean(axis=-1).ravel(), PICTURES["grey"][..., 0].ravel())[0, 1] < 0 for one in grey]
    assert 0.05 < np.mean(inverted) < 0.3


def test_appearance_is_changed_in_a_share_of_the_crops() -> None:
    picture = PICTURES["colour"].astype(np.float32)
    for share in (0.0, 0.3, 1.0):
        augmentation = Augmentation(appearance_share=share)
        changed = [
            not np.array_equal(
                random_appearance(np.random.default_rng(seed), picture, NO_NUCLEI, augmentation), picture
            )
            for seed in range(300)
        ]
        assert np.mean(changed) == pytest.approx(share, abs=0.08)


def test_eased_is_weaker_in_appearance_alone() -> None:
    augmentation = Augmentation(scale=(0.25, 4.0), light=False, appearance_share=0.6)
    assert augmentation.eased() == Augmentation(scale=(0.25, 4.0), light=False, appearance_share=pytest.approx(0.2))


def test_without_light_and_stain_the_picture_stays_as_it_is() -> None:
    picture = PICTURES["colour"].astype(np.float32)
    np.testing.assert_array_equal(random_appearance(np.random.default_rng(0), picture, NO_NUCLEI, STILL), picture)


def test_light_leaves_bright_bright() -> None:
    """Gamma, contrast and noise change values, but bright nuclei stay bright."""
    for seed in range(30):
        changed = random_appearance(
            np.random.default_rng(seed),
            BRIGHT.astype(np.float32) / 255,
            LABELS,
            Augmentation(stain=False, appearance_share=1.0),
        )
        assert changed[LABELS > 0].mean() > changed[LABELS == 0].mean() + 0.2


def test_the_same_generator_gives_the_same_crop() -> None:
    def crop(seed: int) -> bytes:
        rng = np.random.default_rng(seed)
        image, labels, valid = random_crop(rng, BRIGHT, LABELS, 48, Augmentation())
        return b"".join(one.tobytes() for one in (random_appearance(rng, image, labels, Augmentation()), labels, valid))

    assert crop(4) == crop(4)
    assert crop(4) != crop(5)
