"""Which images of a pool are chosen, on pools whose structure is known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nuclei_train.exploration.choosing import ALMOST_THE_SAME, choose, doubts_of, likeness

NONE = np.empty((0, 2))


def cluster(centre: tuple[float, float], n: int) -> np.ndarray:
    return np.array(centre) + 0.05 * np.random.default_rng(n).standard_normal((n, 2))


def chosen(coordinates: np.ndarray, doubts: np.ndarray, n: int, annotated: np.ndarray = NONE) -> list[int]:
    return [one.index for one in choose(coordinates, doubts, n, annotated)]


def test_each_kind_of_image_comes_before_a_second_one_of_a_kind() -> None:
    kinds = [cluster(centre, 8) for centre in ((0, 0), (3, 0), (0, 3), (3, 3))]
    found = chosen(np.concatenate(kinds), np.full(32, 0.5), 4)
    assert sorted(index // 8 for index in found) == [0, 1, 2, 3]


def test_doubt_outweighs_number_and_number_outweighs_an_outlier() -> None:
    pool = np.concatenate([cluster((0, 0), 20), cluster((3, 0), 5), np.array([[9.0, 9.0]])])
    doubts = doubts_of(np.array([0.9] * 20 + [0.3] * 5 + [0.1]))
    found = choose(pool, doubts, 3, NONE)
    assert 20 <= found[0].index < 25
    assert found[0].n_alike == 4
    assert (found[1].index, found[1].n_alike) == (25, 0)
    assert found[2].index < 20
    assert found[0].gain > found[1].gain > found[2].gain


def test_what_looks_like_annotated_images_is_not_suggested() -> None:
    pool = np.concatenate([cluster((0, 0), 10), cluster((3, 0), 5)])
    assert chosen(pool, np.ones(15), 1)[0] < 10
    assert chosen(pool, np.ones(15), 1, annotated=np.zeros((1, 2)))[0] >= 10


def test_copies_of_an_image_are_suggested_once() -> None:
    assert chosen(np.array([[0.0, 0.0]] * 6 + [[50.0, 50.0]]), np.array([1.0] * 6 + [0.5]), 7) == [0, 6]


def test_frames_that_are_almost_the_same_come_after_all_other_images() -> None:
    frames = 0.01 * np.arange(10)[:, np.newaxis] * np.ones((1, 2))
    pool = np.concatenate([frames, np.array([[3.0, 0.0], [0.0, 3.0]])])
    found = chosen(pool, np.array([1.0] * 10 + [0.1] * 2), 6)
    assert found[0] < 10
    assert set(found[1:3]) == {10, 11}
    assert all(index < 10 for index in found[3:])


def test_the_more_doubt_there_is_in_a_kind_the_more_of_it_is_chosen() -> None:
    pool = np.concatenate(
        [0.3 * np.random.default_rng(1).standard_normal((30, 2)) + centre for centre in ((0, 0), (9, 9))]
    )
    found = chosen(pool, np.array([0.6] * 30 + [0.3] * 30), 9)
    of_doubtful = sum(index < 30 for index in found)
    assert 5 <= of_doubtful <= 7


def gain_of(pool: np.ndarray, doubts: np.ndarray, indices: tuple[int, ...]) -> float:
    alike = np.array([likeness(pool, pool[index]) for index in indices])
    return float((doubts * np.log1p(alike.sum(axis=0))).sum())


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 3))
def test_the_greedy_choice_is_a_plain_one_and_near_the_best_possible(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    pool, doubts = rng.normal(scale=2.0, size=(9, 2)), rng.random(9)
    found = chosen(pool, doubts, n)
    plain: list[int] = []
    for _ in range(n):
        near = np.max([likeness(pool, pool[one]) for one in plain], axis=0, initial=0.0) if plain else np.zeros(9)
        rest = np.flatnonzero(near < ALMOST_THE_SAME).tolist()
        plain.append(max(rest, key=lambda index: gain_of(pool, doubts, (*plain, index))))
    assert found == plain
    best = max(gain_of(pool, doubts, one) for one in itertools.combinations(range(9), n))
    assert gain_of(pool, doubts, tuple(found)) >= (1 - np.exp(-1)) * best


def test_likeness_is_one_for_the_same_and_falls_to_the_documented_values() -> None:
    found = likeness(np.array([[0.0, 0.0], [0.25, 0.25], [0.5, 0.5]]), np.zeros(2))
    assert found == pytest.approx([1.0, np.exp(-0.5), np.exp(-2.0)])
