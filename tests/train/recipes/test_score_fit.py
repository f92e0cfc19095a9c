"""The scores that are fitted on validation images are probabilities."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from nuclei_runtime.steps.instances import find_instances
from nuclei_runtime.steps.score import nucleus_signs
from nuclei_runtime.steps.view_choice import Signs, ViewChoice, look_at
from nuclei_train.recipes.score_fit import MIN_OF_EACH, are_right, blurred, fit_score
from tests.train.recipes.conftest import METHOD

VIEWS = ViewChoice(0.0, Signs(1.0, 0.0, 0.0, 0.0, 0.0), 0.8, 0.5, 0.02)
N_SQUARES = 40


def image_of(seed: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Return maps of squares, each the more probably right the larger its distance, and the truth."""
    rng = np.random.default_rng(seed)
    truth, maps = np.zeros((40, 100), np.int32), np.zeros((40, 100, 3), np.float32)
    for index in range(N_SQUARES):
        place = slice(10 * (index // 10) + 2, 10 * (index // 10) + 8), slice(10 * (index % 10) + 2, index % 10 * 10 + 8)
        peak = rng.uniform(0.5, 1)
        maps[place] = 0.9, peak, 0
        truth[place] = index + 1 if rng.random() < (peak - 0.5) * 2 else 0
    return maps, truth


def test_scores_are_the_shares_of_nuclei_that_are_right() -> None:
    maps, truths = zip(*map(image_of, range(60)), strict=True)
    model = fit_score(maps[:40], truths[:40], METHOD, VIEWS)
    assert model is not None
    assert model.weights.peak > 0
    scores, right = [], []
    for one, truth in zip(maps[40:], truths[40:], strict=True):
        labels = find_instances(one, METHOD)
        expected_ap = VIEWS.expected_ap(look_at([(one, labels)]).signs)
        scores.append(model.scores(nucleus_signs(one, labels), expected_ap))
        right.append(are_right(truth, labels))
    order = np.argsort(np.concatenate(scores))
    assert len(order) == 20 * N_SQUARES
    for part in np.array_split(order, 4):
        expected, found = np.concatenate(scores)[part].mean(), np.concatenate(right)[part].mean()
        assert expected == pytest.approx(found, abs=0.12)


def test_a_few_nuclei_are_not_enough() -> None:
    maps, truths = image_of(0)
    assert np.count_nonzero(~are_right(truths, find_instances(maps, METHOD))) < MIN_OF_EACH
    assert fit_score([maps], [truths], METHOD, VIEWS) is None
    assert fit_score([np.zeros_like(maps)], [truths], METHOD, VIEWS) is None


def test_a_copy_is_blurred_within_each_colour() -> None:
    image = np.zeros((41, 43, 3), np.uint8)
    image[20, 21] = 255, 0, 100
    copy = blurred(image, 10.0 / 1.5)
    assert copy.dtype == np.uint8
    assert copy[20, 21].tolist() == [41, 0, 16]  # a two-dimensional Gaussian of one pixel is 0.159 in its middle
    assert not copy[..., 1].any()
