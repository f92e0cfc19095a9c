"""Scores of predicted labels against the true labels, and of probabilities against the true foreground.

Two averages of AP are in use and must not be confused:

- *pooled* (`pooled_ap`): true positives, false positives and false negatives are first summed over the set.
  The StarDist paper uses it (Schmidt et al. 2018, section 3).
- *mean over images* (`mean_image_ap`): the mean of the AP of each image. Kaggle uses it (Data Science Bowl 2018,
  "Evaluation") and also averages over `IOU_THRESHOLDS`, which is called `mean AP` here.

AP at a threshold t is TP / (TP + FP + FN), where a true and a predicted nucleus match if their IoU is greater
than t.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

IOU_THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""IoU 0.5 to 0.95 in steps of 0.05, as in the Data Science Bowl 2018."""


@dataclass(frozen=True)
class Matching:
    """How the nuclei of one image, or of a whole set, match at each of `IOU_THRESHOLDS`.

    Attributes
    ----------
    n_true, n_predicted : int
        Number of nuclei in the truth and in the prediction.
    true_positives : tuple of int
        One count per entry of `IOU_THRESHOLDS`.
    """

    n_true: int
    n_predicted: int
    true_positives: tuple[int, ...]

    def ap(self) -> NDArray[np.float64]:
        """Return AP at each threshold, 0 to 1; 1 if there is neither a true nor a predicted nucleus."""
        hits = np.asarray(self.true_positives, dtype=np.float64)
        union = self.n_true + self.n_predicted - hits
        return np.divide(hits, union, out=np.ones_like(hits), where=union > 0)

    def f1(self) -> NDArray[np.float64]:
        """Return F1 = 2 TP / (2 TP + FP + FN) at each threshold, 0 to 1; 1 if there is nothing to find."""
        hits = np.asarray(self.true_positives, dtype=np.float64)
        total = self.n_true + self.n_predicted
        return 2 * hits / total if total else np.ones_like(hits)


def iou_matrix(truth: NDArray[np.integer], predicted: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return the intersection over union of every true with every predicted nucleus.

    Parameters
    ----------
    truth, predicted : (H, W) ndarray of integers
        0 background; the numbers need not be consecutive.

    Returns
    -------
    (n_true, n_predicted) ndarray of float64
        Rows and columns in ascending order of the labels.
    """
    if truth.shape != predicted.shape:
        raise ValueError(f"the truth is {truth.shape}, the prediction {predicted.shape}; the shapes must be equal")
    true_ids, true_index = np.unique(truth.ravel(), return_inverse=True)
    predicted_ids, predicted_index = np.unique(predicted.ravel(), return_inverse=True)
    pairs = true_index * len(predicted_ids) + predicted_index
    overlap = np.bincount(pairs, minlength=len(true_ids) * len(predicted_ids))
    overlap = overlap.reshape(len(true_ids), len(predicted_ids)).astype(np.float64)
    areas_true, areas_predicted = overlap.sum(axis=1), overlap.sum(axis=0)
    iou = overlap / (areas_true[:, np.newaxis] + areas_predicted[np.newaxis, :] - overlap)
    return np.asarray(iou[true_ids != 0][:, predicted_ids != 0])


def match(truth: NDArray[np.integer], predicted: NDArray[np.integer]) -> Matching:
    """Match the nuclei of one image at each of `IOU_THRESHOLDS`.

    The nuclei of one labelling do not overlap, so each nucleus has at most one partner with an IoU above 0.5, and no
    assignment problem has to be solved.
    """
    iou = iou_matrix(truth, predicted)
    hits = tuple(int((iou > threshold).sum()) for threshold in IOU_THRESHOLDS)
    return Matching(iou.shape[0], iou.shape[1], hits)


def pool(matchings: Sequence[Matching]) -> Matching:
    """Sum the matchings of a set of at least one image."""
    return Matching(
        sum(m.n_true for m in matchings),
        sum(m.n_predicted for m in matchings),
        tuple(int(n) for n in np.sum([m.true_positives for m in matchings], axis=0)),
    )


def pooled_ap(matchings: Sequence[Matching]) -> NDArray[np.float64]:
    """Return AP at each threshold with all images pooled (the StarDist paper's average)."""
    return pool(matchings).ap()


def mean_image_ap(matchings: Sequence[Matching]) -> NDArray[np.float64]:
    """Return AP at each threshold averaged over images (Kaggle's average)."""
    return np.asarray(np.mean([m.ap() for m in matchings], axis=0))


@dataclass(frozen=True)
class PixelScores:
    """Scores of the foreground of one image; all but the loss are from 0 to 1.

    Attributes
    ----------
    loss : float
        Binary cross-entropy in nats, with probabilities clipped to 1e-7 from 0 and 1, as in training.
    accuracy, dice, iou : float
        Of the foreground at the threshold; dice and iou are 1 if both foregrounds are empty.
    """

    loss: float
    accuracy: float
    dice: float
    iou: float


def score_pixels(truth: NDArray[np.bool_], probability: NDArray[np.floating], threshold: float) -> PixelScores:
    """Score a foreground probability against the true foreground, both (H, W)."""
    safe = np.clip(probability.astype(np.float64), 1e-7, 1 - 1e-7)
    loss = -np.mean(np.where(truth, np.log(safe), np.log1p(-safe)))
    predicted = probability > threshold
    both = float(np.count_nonzero(truth & predicted))
    either = float(np.count_nonzero(truth | predicted))
    return PixelScores(
        loss=float(loss),
        accuracy=float(np.mean(truth == predicted)),
        dice=2 * both / (both + either) if either else 1.0,
        iou=both / either if either else 1.0,
    )
