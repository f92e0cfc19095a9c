"""The generator of fields: the same seed gives the same field, and the truth matches the image."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from nuclei_runtime.checks.synthetic import fluorescence_field


def test_a_seed_gives_one_field_and_another_seed_another() -> None:
    image, labels = fluorescence_field(5, height=100, width=140)
    again, labels_again = fluorescence_field(5, height=100, width=140)
    other, _ = fluorescence_field(6, height=100, width=140)
    assert np.array_equal(image, again)
    assert np.array_equal(labels, labels_again)
    assert not np.array_equal(image, other)


@pytest.mark.parametrize("size", [(1, 1), (20, 300), (256, 256)])
def test_the_image_and_its_truth_have_the_size_asked_for(size: tuple[int, int]) -> None:
    image, labels = fluorescence_field(1, height=size[0], width=size[1])
    assert image.shape == labels.shape == size
    assert (image.dtype, labels.dtype) == (np.uint8, np.int32)


def test_the_truth_is_numbered_without_a_gap_and_no_nucleus_is_a_speck() -> None:
    for seed in range(6):
        _, labels = fluorescence_field(seed)
        areas = np.bincount(labels.ravel())[1:]
        assert 12 <= len(areas) <= 24
        assert areas.min() >= 0.7 * np.pi * 7 * 7 * 0.65
        assert areas.max() <= np.pi * 12 * 12 * 1.05


def test_some_nuclei_touch() -> None:
    touching = 0
    for seed in range(6):
        _, labels = fluorescence_field(seed)
        touching += labels.max() - ndimage.label(labels > 0)[1]
    assert touching >= 6


def test_nuclei_are_brighter_than_the_background_and_the_noise_is_the_photons() -> None:
    for seed in range(4):
        image, labels = fluorescence_field(seed)
        background = image[ndimage.binary_dilation(labels > 0, iterations=6) == 0].astype(float)
        assert image[labels > 0].mean() > 3 * background.mean()
        # Poisson: the variance of the counts is their mean; 300 counts are 180 grey levels.
        assert background.var() == pytest.approx(background.mean() * 180 / 300, rel=0.35)


def test_no_nuclei_give_an_empty_truth() -> None:
    image, labels = fluorescence_field(2, height=40, width=50, n_nuclei=0)
    assert labels.max() == 0
    assert image.max() > 0
