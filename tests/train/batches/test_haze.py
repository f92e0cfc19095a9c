"""Haze: light is added, and the nuclei in focus stay the brightest and the sharpest."""

from __future__ import annotations

import numpy as np

from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_train.batches.haze import hazed

IMAGE, LABELS = fluorescence_field(6, height=128, width=128, n_nuclei=16)
FIELD = np.repeat(np.clip(IMAGE / np.percentile(IMAGE, 99.8), 0, 1).astype(np.float32)[..., np.newaxis], 3, axis=-1)
INSIDE = LABELS > 0


def test_the_ground_gets_brighter_and_uneven_and_the_nuclei_stay() -> None:
    for seed in range(30):
        picture = hazed(np.random.default_rng(seed), FIELD)
        assert (picture.shape, picture.dtype) == (FIELD.shape, np.float32)
        assert 0 <= picture.min() <= picture.max() <= 1
        assert np.ptp(picture, axis=-1).max() == 0
        ground = picture[~INSIDE][:, 0]
        assert ground.std() > FIELD[~INSIDE][:, 0].std()
        assert picture[INSIDE].mean() > ground.mean() + 0.15


def test_it_repeats() -> None:
    pictures = [hazed(np.random.default_rng(seed), FIELD).tobytes() for seed in (1, 2, 1)]
    assert pictures[0] == pictures[2] != pictures[1]


def test_a_black_crop_stays_finite() -> None:
    assert np.isfinite(hazed(np.random.default_rng(0), np.zeros_like(FIELD))).all()
