"""Matching against cases computed by hand and against an independent implementation, and the two averages."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from nuclei_runtime.metrics import (
    IOU_THRESHOLDS,
    Matching,
    iou_matrix,
    match,
    mean_image_ap,
    pool,
    pooled_ap,
    score_pixels,
)

Box = tuple[int, int, int, int]


def label_boxes(*boxes: Box, shape: tuple[int, int] = (20, 30)) -> np.ndarray:
    """Labels 1..N of boxes (first row, row behind the last, first column, column behind the last)."""
    labels = np.zeros(shape, np.int32)
    for label, (top, bottom, left, right) in enumerate(boxes, start=1):
        labels[top:bottom, left:right] = label
    return labels


def test_thresholds_are_those_of_the_competition() -> None:
    assert IOU_THRESHOLDS == (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


def test_perfect_prediction() -> None:
    labels = label_boxes((0, 4, 0, 4), (0, 4, 4, 8), (10, 15, 10, 20))
    matching = match(labels, labels)
    assert matching == Matching(3, 3, (3,) * 10)
    assert matching.ap().tolist() == [1.0] * 10
    assert matching.f1().tolist() == [1.0] * 10


def test_shifted_nucleus_matches_up_to_its_iou() -> None:
    # 10 x 10 against the same one column further: 90 of 110 pixels, IoU 0.818.
    matching = match(label_boxes((0, 10, 0, 10)), label_boxes((0, 10, 1, 11)))
    assert matching.true_positives == (1, 1, 1, 1, 1, 1, 1, 0, 0, 0)
    assert matching.ap().tolist() == [1.0] * 7 + [0.0] * 3


def test_merged_nuclei() -> None:
    # Two of 6 x 4 and 6 x 8 found as one of 6 x 12: IoU 1/3 and 2/3, so the larger one counts up to 0.65.
    truth = label_boxes((0, 6, 0, 4), (0, 6, 4, 12))
    merged = label_boxes((0, 6, 0, 12))
    np.testing.assert_allclose(iou_matrix(truth, merged), [[1 / 3], [2 / 3]])
    matching = match(truth, merged)
    assert matching == Matching(2, 1, (1, 1, 1, 1, 0, 0, 0, 0, 0, 0))
    assert matching.ap()[0] == pytest.approx(1 / 2)  # 1 TP, 0 FP, 1 FN
    assert matching.f1()[0] == pytest.approx(2 / 3)


def test_split_nucleus() -> None:
    # One of 6 x 10 found as two of 6 x 5: IoU 1/2 each, and that is not above 0.5.
    matching = match(label_boxes((0, 6, 0, 10)), label_boxes((0, 6, 0, 5), (0, 6, 5, 10)))
    assert matching == Matching(1, 2, (0,) * 10)
    assert matching.ap()[0] == 0.0


def test_nothing_to_find_and_nothing_found_is_perfect() -> None:
    empty = label_boxes()
    matching = match(empty, empty)
    assert matching == Matching(0, 0, (0,) * 10)
    assert matching.ap().tolist() == [1.0] * 10
    assert matching.f1().tolist() == [1.0] * 10


@pytest.mark.parametrize("n_true", [0, 2])
def test_one_empty_side_scores_nothing(n_true: int) -> None:
    some, empty = label_boxes((0, 3, 0, 3), (5, 8, 5, 8)), label_boxes()
    matching = match(some, empty) if n_true else match(empty, some)
    assert (matching.n_true, matching.n_predicted) == (n_true, 2 - n_true)
    assert matching.ap().tolist() == [0.0] * 10
    assert matching.f1().tolist() == [0.0] * 10


@pytest.mark.parametrize("index", range(10))
def test_iou_equal_to_a_threshold_is_not_a_match(index: int) -> None:
    # A truth of 20 pixels and `inside` of them found: IoU inside / 20, which is one of the thresholds.
    inside = 10 + index
    truth = label_boxes((0, 1, 0, 20))
    found = label_boxes((0, 1, 0, inside))
    assert iou_matrix(truth, found)[0, 0] == IOU_THRESHOLDS[index]
    assert match(truth, found).true_positives == (1,) * index + (0,) * (10 - index)


def test_labels_need_not_be_consecutive_nor_of_one_type() -> None:
    truth = label_boxes((0, 4, 0, 4), (8, 12, 8, 12))
    far_apart = np.where(truth == 2, 60_000, truth).astype(np.uint16)
    assert match(far_apart, truth) == match(truth, truth)
    no_background = np.ones((4, 4), np.int32)
    assert match(no_background, no_background) == Matching(1, 1, (1,) * 10)


def test_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(4, 5\).*\(5, 4\)"):
        iou_matrix(np.zeros((4, 5), np.int32), np.zeros((5, 4), np.int32))


def matches_by_assignment(truth: np.ndarray, predicted: np.ndarray, threshold: float) -> int:
    """The most pairs with an IoU above the threshold, from one mask per nucleus and an optimal assignment."""
    true_masks = [truth == label for label in sorted(set(truth.ravel().tolist()) - {0})]
    predicted_masks = [predicted == label for label in sorted(set(predicted.ravel().tolist()) - {0})]
    if not true_masks or not predicted_masks:
        return 0
    iou = np.array([[(t & p).sum() / (t | p).sum() for p in predicted_masks] for t in true_masks])
    rows, columns = linear_sum_assignment(iou > threshold, maximize=True)
    return int((iou > threshold)[rows, columns].sum())


@pytest.mark.parametrize("seed", range(12))
def test_matching_equals_an_optimal_assignment(seed: int) -> None:
    rng = np.random.default_rng(seed)

    def random_boxes(n_boxes: int) -> list[Box]:
        tops, lefts = rng.integers(0, 36, n_boxes), rng.integers(0, 46, n_boxes)
        heights, widths = rng.integers(2, 13, n_boxes), rng.integers(2, 13, n_boxes)
        return [(t, t + h, w, w + v) for t, h, w, v in zip(tops, heights, lefts, widths, strict=True)]

    boxes = random_boxes(int(rng.integers(0, 16)))
    # The prediction: most of the same boxes with edges off by a pixel here and there, and some of its own.
    moved = [
        (t, b + int(rng.integers(0, 2)), w + int(rng.integers(0, 2)), r) for t, b, w, r in boxes if rng.random() < 0.8
    ]
    truth = label_boxes(*boxes, shape=(48, 60))
    predicted = label_boxes(*moved, *random_boxes(3), shape=(48, 60))
    matching = match(truth, predicted)
    assert matching.true_positives == tuple(matches_by_assignment(truth, predicted, t) for t in IOU_THRESHOLDS)
    assert matching.n_true == len(set(truth.ravel().tolist()) - {0})
    assert matching.n_predicted == len(set(predicted.ravel().tolist()) - {0})


def test_the_two_averages_differ_as_computed_by_hand() -> None:
    # 9 of 9 found in one image; in the other, 1 of 3, plus 2 false ones.
    crowded = Matching(9, 9, (9,) * 10)
    sparse = Matching(3, 3, (1,) * 5 + (0,) * 5)
    matchings = [crowded, sparse]
    assert pool(matchings) == Matching(12, 12, (10,) * 5 + (9,) * 5)
    assert pooled_ap(matchings)[0] == pytest.approx(10 / 14)  # 10 TP, 2 FP, 2 FN
    assert pooled_ap(matchings)[9] == pytest.approx(9 / 15)
    assert mean_image_ap(matchings)[0] == pytest.approx((1 + 1 / 5) / 2)
    assert mean_image_ap(matchings)[9] == pytest.approx(1 / 2)
    assert pool(matchings).f1()[0] == pytest.approx(20 / 24)


def test_pixel_scores_by_hand() -> None:
    truth = np.array([[True, True, False, False]])
    probability = np.array([[0.9, 0.4, 0.6, 0.1]], np.float32)
    scores = score_pixels(truth, probability, 0.5)
    assert scores.loss == pytest.approx(-np.log([0.9, 0.4, 0.4, 0.9]).mean(), rel=1e-6)
    assert scores.accuracy == 0.5
    assert scores.dice == 0.5  # 2 x 1 / (2 + 2)
    assert scores.iou == pytest.approx(1 / 3)
    assert score_pixels(truth, probability, 0.95).iou == 0.0  # the threshold given is the one used


def test_certain_and_wrong_has_a_finite_loss() -> None:
    truth = np.array([[True, False]])
    scores = score_pixels(truth, np.array([[0.0, 1.0]], np.float32), 0.5)
    assert scores.loss == pytest.approx(-np.log(1e-7), rel=1e-6)
    assert (scores.accuracy, scores.dice, scores.iou) == (0.0, 0.0, 0.0)


def test_no_foreground_on_either_side_is_perfect() -> None:
    scores = score_pixels(np.zeros((2, 2), bool), np.zeros((2, 2), np.float32), 0.5)
    assert (scores.accuracy, scores.dice, scores.iou) == (1.0, 1.0, 1.0)
    assert scores.loss == pytest.approx(0.0, abs=1e-6)
