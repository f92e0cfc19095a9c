"""Scores of images -> scores of a set of images, with confidence intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.metrics import IOU_THRESHOLDS, Matching, PixelScores, mean_image_ap, pool

AT_50 = IOU_THRESHOLDS.index(0.5)

BOOTSTRAP_SEED = 42
BOOTSTRAP_RESAMPLES = 1000
"""The minimum that Efron and Tibshirani (1993, section 13.3) recommend for percentile intervals."""
BOOTSTRAP_LEVEL = 0.95
BOOTSTRAP_MIN_IMAGES = 8
"""With fewer images the percentile interval does not reach its level: for normal values it contains the mean in 51% of
samples of 2, in 79% of samples of 4 and in 90% of samples of 8."""

Interval = tuple[float, float]


@dataclass(frozen=True)
class ImageScores:
    """One image's scores against its truth.

    Attributes
    ----------
    matching : Matching
    pixels : PixelScores
    """

    matching: Matching
    pixels: PixelScores

    @property
    def mean_ap(self) -> float:
        """AP averaged over `THRESHOLDS`, 0 to 1."""
        return float(self.matching.ap().mean())

    @property
    def ap_50(self) -> float:
        """AP at IoU 0.5, 0 to 1."""
        return float(self.matching.ap()[AT_50])

    @property
    def f1_50(self) -> float:
        """F1 at IoU 0.5, 0 to 1."""
        return float(self.matching.f1()[AT_50])


@dataclass(frozen=True)
class SetScores:
    """Scores of a set of images. `nuclei_runtime.metrics` explains *pooled* and *mean over images*.

    Attributes
    ----------
    n_images, n_true, n_predicted : int
        Numbers of scored images, and of nuclei in them.
    loss, accuracy, dice, iou : float
        Of pixels, mean over images; see `nuclei_runtime.metrics.PixelScores`.
    ap_pooled, ap_mean_over_images : tuple of float
        AP at each of `nuclei_runtime.metrics.IOU_THRESHOLDS`, 0 to 1.
    mean_ap : float
        AP of each image averaged over the thresholds, then over images: Kaggle's score.
    ap_50_pooled, ap_50_mean_over_images : float
        AP at IoU 0.5.
    f1_50_pooled : float
        F1 at IoU 0.5.
    count_error : float
        Mean over images of the absolute difference between predicted and true number of nuclei.
    count_error_relative : float or None
        Mean over images of that difference divided by the true number; images without nuclei are left out.
    count_bias : float
        Mean over images of predicted minus true number: positive if too many nuclei are found.
    mean_ap_interval, ap_50_pooled_interval, ap_50_mean_over_images_interval : (float, float) or None
        See `bootstrap`; None for fewer than `BOOTSTRAP_MIN_IMAGES` images.
    """

    n_images: int
    n_true: int
    n_predicted: int
    loss: float
    accuracy: float
    dice: float
    iou: float
    ap_pooled: tuple[float, ...]
    ap_mean_over_images: tuple[float, ...]
    mean_ap: float
    mean_ap_interval: Interval | None
    ap_50_pooled: float
    ap_50_pooled_interval: Interval | None
    ap_50_mean_over_images: float
    ap_50_mean_over_images_interval: Interval | None
    f1_50_pooled: float
    count_error: float
    count_error_relative: float | None
    count_bias: float


def summarise(images: Sequence[ImageScores]) -> SetScores:
    """Score a set of at least one image."""
    matchings = [image.matching for image in images]
    pooled = pool(matchings)
    ap_pooled, ap_mean = pooled.ap(), mean_image_ap(matchings)
    loss, accuracy, dice, iou = np.mean(
        [(i.pixels.loss, i.pixels.accuracy, i.pixels.dice, i.pixels.iou) for i in images], axis=0
    ).tolist()
    n_true = np.array([m.n_true for m in matchings])
    surplus = np.array([m.n_predicted for m in matchings]) - n_true
    with_nuclei = n_true > 0
    intervals = bootstrap(images)
    return SetScores(
        n_images=len(images),
        n_true=pooled.n_true,
        n_predicted=pooled.n_predicted,
        loss=loss,
        accuracy=accuracy,
        dice=dice,
        iou=iou,
        ap_pooled=tuple(ap_pooled.tolist()),
        ap_mean_over_images=tuple(ap_mean.tolist()),
        mean_ap=float(ap_mean.mean()),
        mean_ap_interval=intervals[0],
        ap_50_pooled=float(ap_pooled[AT_50]),
        ap_50_pooled_interval=intervals[1],
        ap_50_mean_over_images=float(ap_mean[AT_50]),
        ap_50_mean_over_images_interval=intervals[2],
        f1_50_pooled=float(pooled.f1()[AT_50]),
        count_error=float(np.abs(surplus).mean()),
        count_error_relative=(
            float((np.abs(surplus) / np.maximum(n_true, 1))[with_nuclei].mean()) if with_nuclei.any() else None
        ),
        count_bias=float(surplus.mean()),
    )


def bootstrap(images: Sequence[ImageScores]) -> tuple[Interval | None, Interval | None, Interval | None]:
    """Return the 95% intervals of mean AP, AP@0.5 pooled and AP@0.5 mean over images.

    Seeded bootstrap over images, percentile method (Efron and Tibshirani 1993, chapter 13). Images are assumed to be
    independent; if several are tiles of one field they are not, and the intervals are too narrow.
    """
    n_images = len(images)
    if n_images < BOOTSTRAP_MIN_IMAGES:
        return None, None, None
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    # The number of times each image is drawn in each resample: (resamples, images).
    draws = rng.multinomial(n_images, np.full(n_images, 1 / n_images), size=BOOTSTRAP_RESAMPLES)
    hits = draws @ np.array([image.matching.true_positives[AT_50] for image in images])
    union = draws @ np.array([image.matching.n_true + image.matching.n_predicted for image in images]) - hits
    pooled = np.divide(hits, union, out=np.ones(BOOTSTRAP_RESAMPLES), where=union > 0)
    mean_ap = draws @ np.array([image.mean_ap for image in images]) / n_images
    ap_50 = draws @ np.array([image.ap_50 for image in images]) / n_images
    return percentile_interval(mean_ap), percentile_interval(pooled), percentile_interval(ap_50)


def percentile_interval(resampled: NDArray[np.float64]) -> Interval:
    """Return the interval that contains the middle `BOOTSTRAP_LEVEL` of resampled values."""
    tail = 100 * (1 - BOOTSTRAP_LEVEL) / 2
    low, high = np.percentile(resampled, [tail, 100 - tail])
    return float(low), float(high)
