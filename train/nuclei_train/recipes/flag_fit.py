"""What is ordinary for an image, fitted on the training and validation images; see `nuclei_runtime.steps.flags`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.arrays import Maps
from nuclei_runtime.steps.evidence import NO_EVIDENCE, Evidence, evidence_of
from nuclei_runtime.steps.flags import FlagLimits
from nuclei_runtime.steps.instances import find_instances
from nuclei_runtime.steps.step import Step
from nuclei_runtime.steps.view_choice import ViewChoice, look_at
from nuclei_train.recipes.novelty_fit import fit_familiar

UNLIKE_SHARE = 0.03
"""Share of the images that is flagged for their appearance."""
DOUBTFUL_SHARE = 0.03
"""Share of the validation images that is flagged for what is expected of them; the training images are no guide to
that, because the network has learned them."""
SATURATED_SHARE = 0.005
"""Share of the images that is flagged for saturation."""
BLURRED_SHARE = 0.008
"""Share of the images that is flagged for blur. All together, at most 5 % of the training and validation images of the
bundled model are flagged; with a share of 0.005, only 4 of 12 bad results on images blurred by 3 pixels would be. With
limits that the validation images alone set, 13 % of the training images would be flagged: 68 images do not show what is
ordinary."""
MARGIN = 0.05
"""How far the limits of the size lie beyond all images, as a share of their value."""
_PARTS = 1000
"""The numbers in the card are thousandths, rounded away from the ordinary images."""


def fit_flags(training: Sequence[Evidence], validation: Sequence[Evidence]) -> FlagLimits | None:
    """Fit what is ordinary.

    Parameters
    ----------
    training, validation : sequence of Evidence
        Of the images on which the network was trained, and of others that belong to them.

    Returns
    -------
    FlagLimits or None
        None if there are too few training images, or if nothing was found in any image.
    """
    familiar = fit_familiar([one.appearance for one in training if one.appearance is not None])
    every = (*training, *validation)
    expected, sizes, saturation, sharpness = (
        sorted(value for one in images if (value := getattr(one, name)) is not None)
        for name, images in (("expected_ap", validation), ("size", every), ("saturation", every), ("sharpness", every))
    )
    if familiar is None or not (expected and sizes and sharpness):
        return None
    novelty = sorted(familiar.distance(one.appearance) for one in every if one.appearance is not None)
    return FlagLimits(
        min_expected_ap=_down(expected[int(DOUBTFUL_SHARE * len(expected))]),
        min_size=_down(sizes[0] / (1 + MARGIN)),
        max_size=_up(sizes[-1] * (1 + MARGIN)),
        max_saturation=_up(saturation[-1 - int(SATURATED_SHARE * len(saturation))]),
        # Beyond 1, as edges of sharpened images are, all is sharp.
        min_sharpness=min(max(_down(sharpness[int(BLURRED_SHARE * len(sharpness))]), 0.0), 1.0),
        max_novelty=_up(novelty[-1 - int(UNLIKE_SHARE * len(novelty))]),
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
    if not shown.any():  # nothing stands out
        return NO_EVIDENCE
    labels = find_instances(maps, postprocessing)
    look = look_at([(maps, labels)])
    return evidence_of([(shown, labels > 0)], look, known_px, expected_ap=views.expected_ap(look.signs))


def _down(value: float) -> float:
    return math.floor(value * _PARTS) / _PARTS


def _up(value: float) -> float:
    return math.ceil(value * _PARTS) / _PARTS
