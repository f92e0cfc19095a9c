"""From probability to labelled nuclei."""

from __future__ import annotations

import numpy as np
import pytest
from skimage import measure

from nuclei_runtime.instances import connected_components, find_instances
from nuclei_runtime.preprocess import Step


def picture(*rows: str) -> np.ndarray:
    """``#`` is foreground."""
    return np.array([[0.9 if mark == "#" else 0.1 for mark in row] for row in rows], np.float32)


def test_pieces_are_numbered_row_by_row_and_touch_only_by_their_sides() -> None:
    probability = picture(
        "##...#",
        "##..#.",
        "......",
        "#.##..",
    )
    labels = connected_components(probability, threshold=0.5, min_area_px=1)
    assert labels.tolist() == [
        [1, 1, 0, 0, 0, 2],
        [1, 1, 0, 0, 3, 0],
        [0, 0, 0, 0, 0, 0],
        [4, 0, 5, 5, 0, 0],
    ]
    assert labels.dtype == np.int32


def test_small_pieces_are_dropped_and_the_others_renumbered() -> None:
    probability = picture(
        "#.###",
        "...#.",
        "##...",
    )
    assert connected_components(probability, threshold=0.5, min_area_px=2).tolist() == [
        [0, 0, 1, 1, 1],
        [0, 0, 0, 1, 0],
        [2, 2, 0, 0, 0],
    ]
    assert connected_components(probability, threshold=0.5, min_area_px=4).max() == 1
    assert connected_components(probability, threshold=0.5, min_area_px=5).max() == 0


def test_foreground_is_above_the_threshold_not_at_it() -> None:
    probability = np.array([[0.25, 0.5, 0.5000001, 1.0]], np.float32)
    assert connected_components(probability, threshold=0.5, min_area_px=1).tolist() == [[0, 0, 1, 1]]


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_all_background_and_all_foreground(value: float) -> None:
    labels = connected_components(np.full((5, 7), value, np.float32), threshold=0.5, min_area_px=1)
    assert labels.shape == (5, 7)
    assert np.unique(labels).tolist() == [int(value)]


def test_it_agrees_with_scikit_image_on_noise() -> None:
    probability = np.random.default_rng(4).random((80, 90), dtype=np.float32)
    labels = connected_components(probability, threshold=0.45, min_area_px=1)
    assert labels.max() > 100
    assert np.array_equal(labels, measure.label(probability > 0.45, connectivity=1))
    kept = connected_components(probability, threshold=0.45, min_area_px=6)
    areas = np.bincount(labels.ravel())
    assert kept.max() == (areas[1:] >= 6).sum()
    assert set(np.bincount(kept.ravel())[1:]) == {area for area in areas[1:] if area >= 6}


def test_the_method_of_a_card_is_called_with_its_arguments() -> None:
    probability = picture("##.#")
    method = Step("connected_components", {"threshold": 0.5, "min_area_px": 2})
    assert find_instances(probability, method).tolist() == [[1, 1, 0, 0]]
