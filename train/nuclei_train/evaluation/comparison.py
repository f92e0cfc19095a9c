"""Two models on the same images: whether one is better, with an interval of the difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from nuclei_train.evaluation.scores import (
    BOOTSTRAP_MIN_IMAGES,
    BOOTSTRAP_RESAMPLES,
    BOOTSTRAP_SEED,
    Interval,
    percentile_interval,
)


class Verdict(StrEnum):
    """What the images say about the second model."""

    BETTER = "better"
    WORSE = "worse"
    SAME = "no difference can be shown"
    TOO_FEW = "too few images to tell"


@dataclass(frozen=True)
class Comparison:
    """The scores of two models on the same images.

    Attributes
    ----------
    n_images : int
    before, after : float
        Means over the images.
    interval : (float, float) or None
        95 % bootstrap interval of the mean difference; None for fewer than `BOOTSTRAP_MIN_IMAGES` images.
    """

    n_images: int
    before: float
    after: float
    interval: Interval | None

    @property
    def difference(self) -> float:
        """After minus before."""
        return self.after - self.before

    @property
    def verdict(self) -> Verdict:
        """Better or worse only if the interval excludes 0."""
        if self.interval is None:
            return Verdict.TOO_FEW
        low, high = self.interval
        return Verdict.BETTER if low > 0 else Verdict.WORSE if high < 0 else Verdict.SAME


def compare(before: Sequence[float], after: Sequence[float]) -> Comparison:
    """Compare two models by their scores on the same images, at least one.

    Seeded bootstrap over the images' differences, percentile method (Efron and Tibshirani 1993, chapter 13): how
    difficult an image is drops out. Images are assumed to be independent; see
    `nuclei_train.evaluation.scores.bootstrap`.
    """
    differences = np.subtract(after, before)
    n_images = differences.size
    interval = None
    if n_images >= BOOTSTRAP_MIN_IMAGES:
        rng = np.random.default_rng(BOOTSTRAP_SEED)
        draws = rng.multinomial(n_images, np.full(n_images, 1 / n_images), size=BOOTSTRAP_RESAMPLES)
        interval = percentile_interval(draws @ differences / n_images)
    return Comparison(n_images, float(np.mean(before)), float(np.mean(after)), interval)
