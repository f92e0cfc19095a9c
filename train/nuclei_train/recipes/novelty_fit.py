"""What the training images look like, for `nuclei_runtime.steps.novelty`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.steps.novelty import N_NUMBERS, Appearance, Familiar

MIN_IMAGES = 5 * N_NUMBERS
"""With fewer training images, the covariances of so many numbers are not known."""
RIDGE = 0.01
"""Share of its variance that is added to each number: details of neighbouring sizes are so much alike that without it,
small differences between them would count for much."""
LEAST_VARIANCE = 1e-5
"""Added to all: otherwise the least colour would be infinitely far from training images that are all grey."""
DECIMALS = 4
"""Of the numbers in the card."""


def fit_familiar(appearances: Sequence[Appearance]) -> Familiar | None:
    """Return what training images look like: the mean and the covariance of their numbers.

    Returns
    -------
    Familiar or None
        None if there are fewer than `MIN_IMAGES` images.
    """
    if len(appearances) < MIN_IMAGES:
        return None
    known = np.array([astuple(one) for one in appearances])
    return _familiar(known.mean(axis=0), np.cov(known.T))


def including(familiar: Familiar, appearances: Sequence[Appearance], share: float = 0.5) -> Familiar:
    """Return what a network knows after it was trained on further images.

    Parameters
    ----------
    familiar : Familiar
    appearances : sequence of Appearance
        Of the further images, at least one.
    share : float
        How much they weigh beside those from before, 0 to 1.
    """
    new = np.array([astuple(one) for one in appearances])
    means = np.array(astuple(familiar.means))
    unwhitened = np.linalg.inv(np.array(familiar.whitening))
    apart = new.mean(axis=0) - means
    within = (1 - share) * unwhitened @ unwhitened.T + share * np.cov(new.T, bias=True)
    return _familiar(means + share * apart, within + share * (1 - share) * np.outer(apart, apart), ridge=0.0)


def _familiar(means: NDArray[np.float64], covariance: NDArray[np.float64], ridge: float = RIDGE) -> Familiar:
    floor = LEAST_VARIANCE * (ridge > 0)
    whitening = np.linalg.inv(np.linalg.cholesky(covariance + np.diag(ridge * covariance.diagonal() + floor)))
    # Adding 0 makes 0 of -0.
    rows = tuple(tuple(row) for row in (whitening.round(DECIMALS) + 0.0).tolist())
    return Familiar(Appearance(*means.round(DECIMALS).tolist()), rows)
