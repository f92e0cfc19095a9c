"""How probable it is that a nucleus is right, fitted on the validation images; see `nuclei_runtime.steps.score`.

Validation images resemble the training images: a network finds most of their nuclei. Fitted on them alone, the scores
of stains and tissues that it does not know are too high. Blurred copies of the images, in which it errs more often,
lower them, and change those of the images as they are by little.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.arrays import Labels, Maps
from nuclei_runtime.metrics import IOU_THRESHOLDS, iou_matrix
from nuclei_runtime.steps.instances import find_instances
from nuclei_runtime.steps.score import ScoreModel, ScoreWeights, nucleus_signs, score_terms
from nuclei_runtime.steps.step import Step
from nuclei_runtime.steps.view_choice import ViewChoice, look_at

T = TypeVar("T", bound=np.generic)

MIN_OF_EACH = 50
"""With fewer nuclei that are right, or fewer that are wrong, five numbers cannot be fitted, and there is no score."""
BLUR = 0.15
"""Standard deviation of the blur of a copy, relative to the diameter of the training nuclei: three pixels for nuclei of
20. docs/history.md says what others give."""
RIDGE = 1e-3
"""Penalty on the squares of the weights of the standardised terms, per nucleus."""
MAX_STEPS = 100
TOLERANCE = 1e-9
"""Newton's method ends when no weight changes by more."""
DECIMALS = 3
"""Of the numbers in the card."""


def fit_score(
    maps: Iterable[Maps], truths: Iterable[Labels], postprocessing: Step, views: ViewChoice
) -> ScoreModel | None:
    """Fit how the probability that a nucleus is right depends on what the network's maps of it look like.

    Parameters
    ----------
    maps : iterable of (H, W, M) ndarray
        Of each validation image as it is, and of its `blurred` copy.
    truths : iterable of (H, W) ndarray of int32
        Of each of the maps.
    postprocessing : Step
        The model card's.
    views : ViewChoice
        The model card's: what it expects of an image is part of the score.

    Returns
    -------
    ScoreModel or None
        None if there are fewer than `MIN_OF_EACH` nuclei that are right, or that are wrong.
    """
    terms, outcomes = [], []
    for one, truth in zip(maps, truths, strict=True):
        labels = find_instances(one, postprocessing)
        if not labels.any():
            continue
        expected_ap = views.expected_ap(look_at([(one, labels)]).signs)
        terms.append(score_terms(nucleus_signs(one, labels), expected_ap))
        outcomes.append(are_right(truth, labels))
    right = np.concatenate(outcomes) if outcomes else np.zeros(0, bool)
    if min(np.count_nonzero(right), np.count_nonzero(~right)) < MIN_OF_EACH:
        return None
    intercept, *weights = _logistic_regression(np.concatenate(terms), right).round(DECIMALS).tolist()
    return ScoreModel(intercept, ScoreWeights(*weights))


def blurred(image: NDArray[T], diameter_px: float) -> NDArray[T]:
    """Return a blurred copy of an (H, W) or (H, W, C) image, of the same type.

    Parameters
    ----------
    image : ndarray of integers
    diameter_px : float
        Of the training nuclei.
    """
    from scipy import ndimage

    sigma = BLUR * diameter_px
    smooth: NDArray[np.float32] = ndimage.gaussian_filter(
        image.astype(np.float32), (sigma, sigma, *[0] * (image.ndim - 2))
    )
    return np.rint(smooth).astype(image.dtype)


def are_right(truth: Labels, labels: Labels) -> NDArray[np.bool_]:
    """Return whether each nucleus 1..n matches a true one with an IoU above 0.5."""
    return np.asarray((iou_matrix(truth, labels) > IOU_THRESHOLDS[0]).any(axis=0))


def _logistic_regression(terms: NDArray[np.float64], right: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the intercept and the weights, by Newton's method (iteratively reweighted least squares)."""
    mean, spread = terms.mean(axis=0), np.maximum(terms.std(axis=0), 1e-9)
    known = np.column_stack([np.ones(len(terms)), (terms - mean) / spread])
    penalty = np.diag([0.0, *[RIDGE * len(terms)] * terms.shape[1]])
    found = np.zeros(known.shape[1])
    for _ in range(MAX_STEPS):
        expected = 1 / (1 + np.exp(-known @ found))
        slope = known.T @ (expected - right) + penalty @ found
        curvature = known.T @ ((expected * (1 - expected))[:, np.newaxis] * known) + penalty
        step = np.linalg.solve(curvature, slope)
        found -= step
        if np.abs(step).max() < TOLERANCE:
            break
    weights = found[1:] / spread
    return np.array([found[0] - float(weights @ mean), *weights])
