"""What is ordinary for an image, fitted on the training and validation images; see `nuclei_runtime.steps.flags`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.arrays import Maps
from nuclei_runtime.steps.evidence import Evidence, evidence_of
from nuclei_runtime.steps.flags import FlagLimits
from nuclei_runtime.steps.instances import find_instances
from nuclei_runtime.steps.novelty import Appearance
from nuclei_runtime.steps.step import Step
from nuclei_runtime.steps.view import ViewChoice, look_at
from nuclei_train.recipes.novelty_fit import fit_familiar

NOVEL_SHARE, DOUBTFUL_SHARE = 0.015, 0.03
"""Shares of the validation images that are flagged for their appearance, and for what is expected of them: together
less than 5 %. The other limits lie beyond all validation images."""
MARGIN = 0.05
"""How far beyond, as a share of the value of the most extreme one."""
_PARTS = 1000
"""The numbers in the card are thousandths, rounded away from the ordinary images."""


def fit_flags(training: Sequence[Appearance], validation: Sequence[Evidence]) -> FlagLimits | None:
    """Fit what is ordinary.

    Parameters
    ----------
    training : sequence of Appearance
        Of the training images.
    validation : sequence of Evidence
        Of the validation images, as they are segmented.

    Returns
    -------
    FlagLimits or None
        None if there are too few training images, or if nothing was found in the validation images.
    """
    familiar = fit_familiar(training)
    if familiar is None:
        return None
    novelty = sorted(familiar.distance(one.appearance) for one in validation if one.appearance is not None)
    expected, sizes, saturation, sharpness = (
        sorted(value for one in validation if (value := getattr(one, name)) is not None)
        for name in ("expected_ap", "size", "saturation", "sharpness")
    )
    if not (novelty and expected and sizes and sharpness):
        return None
    return FlagLimits(
        min_expected_ap=_down(expected[int(DOUBTFUL_SHARE * len(expected))]),
        min_size=_down(sizes[0] / (1 + MARGIN)),
        max_size=_up(sizes[-1] * (1 + MARGIN)),
        max_saturation=min(_up(saturation[-1] * (1 + MARGIN)), 1.0),
        min_sharpness=max(_down(sharpness[0] / (1 + MARGIN)), 0.0),
        max_novelty=_up(novelty[-1 - int(NOVEL_SHARE * len(novelty))]),
        familiar=familiar,
    )


def evidence_as_it_is(
    shown: NDArray[np.float32], maps: Maps, postprocessing: Step, views: ViewChoice, known_px: float
) -> Evidence:
    """Return what is known of an image that is shown to the network as it is, as a whole.

    Parameters
    ----------
    shown : (H, W, 3) ndarray of float32 in [0, 1]
        The network's input.
    maps : (H, W, M) ndarray
    postprocessing : Step
    views : ViewChoice
        What the network's maps of an image promise.
    known_px : float
        Diameter of the training nuclei.
    """
    labels = find_instances(maps, postprocessing)
    look = look_at([(maps, labels)])
    return evidence_of([(shown, labels > 0)], look, known_px, expected_ap=views.expected_ap(look.signs))


def _down(value: float) -> float:
    return math.floor(value * _PARTS) / _PARTS


def _up(value: float) -> float:
    return math.ceil(value * _PARTS) / _PARTS
