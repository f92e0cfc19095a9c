"""Stains: what is made up obeys the law of Beer and Lambert, and the nuclei stay where the labels say."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.color import hed2rgb, rgb2hed

from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_train.batches.augment import Augmentation, random_appearance
from nuclei_train.batches.stains import haematoxylin, restained, shows_fluorescence, virtual_section

IMAGE, LABELS = fluorescence_field(6, height=120, width=150, n_nuclei=16)
FIELD = np.repeat(np.clip(IMAGE / np.percentile(IMAGE, 99.8), 0, 1).astype(np.float32)[..., np.newaxis], 3, axis=-1)
INSIDE = LABELS > 0


def section(eosin: float) -> NDArray[np.float32]:
    """Draw a section with skimage's colours: haematoxylin in the nuclei, eosin elsewhere."""
    amounts = np.stack([np.where(INSIDE, 0.15, 0.01), np.where(INSIDE, 0.02, eosin), np.zeros(LABELS.shape)], axis=-1)
    return np.asarray(hed2rgb(amounts), np.float32)


def test_nuclei_of_virtual_sections_are_darker_than_their_ground_and_in_colour() -> None:
    """In nearly all: now and then a pale nucleus lies on a dark ground, as in real sections."""
    darker = 0
    for seed in range(40):
        picture = virtual_section(np.random.default_rng(seed), FIELD, LABELS)
        assert (picture.shape, picture.dtype) == (FIELD.shape, np.float32)
        assert 0 <= picture.min() <= picture.max() <= 1
        assert np.ptp(picture, axis=-1).mean() > 0.02
        darker += picture[INSIDE].mean() < picture[~INSIDE].mean()
    assert darker >= 36


def test_virtual_sections_differ_and_repeat() -> None:
    pictures = [virtual_section(np.random.default_rng(seed), FIELD, LABELS).tobytes() for seed in (1, 2, 1)]
    assert pictures[0] == pictures[2] != pictures[1]


@pytest.mark.parametrize("labels", [np.zeros_like(LABELS), np.ones_like(LABELS)])
def test_a_section_without_nuclei_and_one_that_is_all_nucleus(labels: NDArray[np.int32]) -> None:
    picture = virtual_section(np.random.default_rng(0), np.zeros_like(FIELD), labels)
    assert np.isfinite(picture).all()
    assert not shows_fluorescence(FIELD, labels)


def test_fluorescence_has_bright_nuclei() -> None:
    assert shows_fluorescence(FIELD, LABELS)
    assert not shows_fluorescence(1 - FIELD, LABELS)


@pytest.mark.parametrize("eosin", [0.02, 0.1, 0.2])
def test_the_haematoxylin_channel_is_grey_and_bright_in_nuclei(eosin: float) -> None:
    picture = haematoxylin(section(eosin))
    assert np.ptp(picture, axis=-1).max() == 0
    assert picture[INSIDE].min() > 0.9
    assert picture[~INSIDE].max() < 0.1


def test_it_is_the_channel_of_scikit_image_but_for_contrast() -> None:
    noisy = np.clip(section(0.1) + 0.05 * np.random.default_rng(0).standard_normal(FIELD.shape), 0.03, 1)
    ours, theirs = haematoxylin(noisy.astype(np.float32))[..., 0], rgb2hed(noisy)[..., 0]
    middle = (ours > 0) & (ours < 1)
    assert np.corrcoef(ours[middle], theirs[middle])[0, 1] > 0.999


def test_restained_nuclei_stay_darker_than_their_ground() -> None:
    picture = section(0.05)
    changed = [restained(np.random.default_rng(seed), picture) for seed in range(30)]
    assert all(one[INSIDE].mean() < one[~INSIDE].mean() - 0.1 for one in changed)
    assert len({one.tobytes() for one in changed}) == 30
    assert all(np.isfinite(one).all() and 0 <= one.min() <= one.max() <= 1 for one in changed)


def test_some_fluorescence_crops_become_sections_and_no_others() -> None:
    stain = Augmentation(light=False, appearance_share=1.0)
    for labels, low, high in ((LABELS, 0.2, 0.4), (np.zeros_like(LABELS), 0.0, 0.0)):
        rngs = [np.random.default_rng(seed) for seed in range(150)]
        changed = [random_appearance(rng, FIELD, labels, stain) for rng in rngs]
        # A tint multiplies; a section is not proportional to the image.
        is_section = [np.ptp(one, axis=-1).max() > 1e-6 and one[~INSIDE].mean() > one[INSIDE].mean() for one in changed]
        assert low <= np.mean(is_section) <= high
