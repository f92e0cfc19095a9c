"""The signs of a nucleus, its score, and that neither depends on the window in which it was found."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.steps.score import ScoreModel, ScoreWeights, nucleus_signs, score_terms

MODEL = ScoreModel(-1.0, ScoreWeights(peak=0.5, inside=0.25, shared=-2.0, expected_ap=3.0))


def maps_like(labels: NDArray[np.int32]) -> NDArray[np.float32]:
    rng = np.random.default_rng(3)
    return (rng.random((*labels.shape, 3)) * np.where(labels > 0, 1.0, 0.6)[..., np.newaxis]).astype(np.float32)


def signs_one_by_one(maps: NDArray[np.float32], labels: NDArray[np.int32]) -> list[tuple[float, float, float]]:
    found = []
    height, width = labels.shape
    for number in range(1, labels.max() + 1):
        inner, outer = [], []
        for row, column in np.argwhere(labels == number):
            around = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
            beyond = [(r, c) for r, c in around if not (0 <= r < height and 0 <= c < width) or labels[r, c] != number]
            inner += [] if beyond else [maps[row, column, 0]]
            outer += [maps[r, c, 0] > 0.5 for r, c in beyond if 0 <= r < height and 0 <= c < width]
        peak = maps[..., 1][labels == number].max()
        found.append((peak, np.mean(inner) if inner else 0.0, np.mean(outer) if outer else 0.0))
    return found


def test_signs_are_those_of_each_nucleus_alone() -> None:
    _, labels = fluorescence_field(4, height=90, width=70, n_nuclei=30)
    labels[0, 0] = labels.max() + 1  # a single pixel in the corner
    maps = maps_like(labels)
    np.testing.assert_allclose(nucleus_signs(maps, labels), signs_one_by_one(maps, labels), rtol=1e-6)


def test_a_window_gives_the_same_signs_to_the_bit() -> None:
    labels = np.zeros((60, 80), np.int32)
    labels[20:31, 30:45], labels[31:40, 30:45] = 1, 2
    maps = maps_like(labels)
    whole = nucleus_signs(maps, labels)
    window = slice(19, 41), slice(29, 46)  # the nuclei and one pixel more
    np.testing.assert_array_equal(nucleus_signs(maps[window], labels[window]), whole)
    everything = np.ones((8, 9), np.int32)  # nothing beyond it
    assert nucleus_signs(maps[:8, :9], everything)[0, 2] == 0
    assert nucleus_signs(maps, np.zeros_like(labels)).shape == (0, 3)


def test_a_score_is_the_logistic_function_of_the_terms() -> None:
    (score,) = MODEL.scores(np.array([[0.9, 0.5, 0.25]]), 0.8)
    log_odds = -1 + 0.5 * math.log(0.92 / 0.12) + 0.25 * math.log(1) - 2 * 0.25 + 3 * 0.8
    assert score == pytest.approx(1 / (1 + math.exp(-log_odds)), abs=5e-5)
    ends = score_terms(np.array([[0.0, 1.0, 0.0]]), 0.0)
    assert ends[0, 0] == pytest.approx(-ends[0, 1]) == pytest.approx(math.log(0.02 / 1.02))
    surer = MODEL.scores(np.array([[0.7, 0.5, 0.5], [0.9, 0.5, 0.5], [0.9, 0.9, 0.5], [0.9, 0.9, 0.0]]), 0.5)
    assert (np.diff(surer) > 0).all()
    assert ((surer > 0) & (surer < 1)).all()
