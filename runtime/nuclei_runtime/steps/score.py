"""The score of a nucleus: the probability that it is right, that is, matches a true nucleus with an IoU above 0.5.

The maps tell for each nucleus what they tell for an image (see `nuclei_runtime.steps.view_choice`): in a true nucleus
the distance reaches 1 and the foreground is certain; where two share an outline, the cut between them may be wrong. A
logistic regression of such `NucleusSigns`, and of the AP@0.5 that is expected of the whole image, is fitted on
validation images.

A sign depends on the pixels of its nucleus and their neighbours only, so that a nucleus has the same score however
large the block is in which it was found. docs/card.md has the complete procedure.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.arrays import Labels, Maps
from nuclei_runtime.json_fields import Fields
from nuclei_runtime.steps.view_choice import FOREGROUND, MAX_WEIGHT

Scores = NDArray[np.float64]
"""(n,) scores, 0 to 1, in the order of the numbers of the nuclei."""

NucleusSigns = NDArray[np.float64]
"""(n, 3) signs, 0 to 1, in the order of the numbers of the nuclei; the columns are `peak`, `inside` and `shared` of
`ScoreWeights`."""

N_SIGNS = 3

NO_SIGNS: NucleusSigns = np.zeros((0, N_SIGNS))
"""What is known of the nuclei if nobody asks for their scores."""

SOFTENING = 0.02
"""Of the log-odds of a sign that is 0 or 1. Most signs of most nuclei are close to 1, and what counts there is how
close."""

DECIMALS = 4
"""Of a score. More would be rounding errors of the network, which differ between processors."""


@dataclass(frozen=True)
class ScoreWeights:
    """The weights of the numbers that a score is made of.

    Attributes
    ----------
    peak : float
        Of the log-odds of the largest distance in the nucleus.
    inside : float
        Of the log-odds of the mean foreground probability of its pixels, without those on its outline.
    shared : float
        Of the share of its outline beyond which there is foreground, of another nucleus or of none.
    expected_ap : float
        Of the AP@0.5 that is expected of the image.
    """

    peak: float
    inside: float
    shared: float
    expected_ap: float


@dataclass(frozen=True)
class ScoreModel:
    """What a model card says about the score.

    Attributes
    ----------
    intercept : float
    weights : ScoreWeights
    """

    intercept: float
    weights: ScoreWeights

    def scores(self, signs: NucleusSigns, expected_ap: float) -> Scores:
        """Return the scores of nuclei of one image.

        Parameters
        ----------
        signs : (n, 3) ndarray
            See `nucleus_signs`.
        expected_ap : float
            0 to 1.
        """
        log_odds = self.intercept + score_terms(signs, expected_ap) @ np.array(astuple(self.weights))
        return np.asarray(np.round(1 / (1 + np.exp(-log_odds)), DECIMALS))


def score_terms(signs: NucleusSigns, expected_ap: float) -> NDArray[np.float64]:
    """Return the numbers that the weights belong to, (n, 4), in the order of `ScoreWeights`."""
    softened = np.log((signs[:, :2] + SOFTENING) / (1 + SOFTENING - signs[:, :2]))
    return np.column_stack([softened, signs[:, 2], np.full(len(signs), expected_ap)])


def nucleus_signs(maps: Maps, labels: Labels) -> NucleusSigns:
    """Return the signs of each nucleus.

    Parameters
    ----------
    maps : (H, W, M) ndarray of float32
        The first two are foreground and distance.
    labels : (H, W) ndarray of int32
        Complete nuclei 1..n. Where the image goes on beyond a nucleus, the maps and labels go on too.

    Returns
    -------
    (n, 3) ndarray
    """
    width, n_numbers = labels.shape[1], int(labels.max(initial=0)) + 1
    numbers, values = labels.ravel(), maps.reshape(-1, maps.shape[2])
    places = np.flatnonzero(numbers > 0)
    own = numbers.take(places)
    peak = np.zeros(n_numbers, np.float32)
    np.maximum.at(peak, own, values[places, 1])

    # All pairs of neighbours with different numbers: pixels below or right of each other, and the other way round.
    below = np.flatnonzero(numbers[width:] != numbers[:-width])
    right = np.flatnonzero(numbers[1:] != numbers[:-1])
    right = right[right % width != width - 1]  # in the last column, the next place is in the next row
    at = np.concatenate([below, below + width, right, right + 1])
    beyond = np.concatenate([below + width, below, right + 1, right])
    outer = numbers[at]
    n_outer = np.bincount(outer, minlength=n_numbers)
    n_shared = np.bincount(outer[values[beyond, 0] > FOREGROUND], minlength=n_numbers)

    is_within = np.zeros(labels.shape, bool)
    is_within[1:-1, 1:-1] = True
    is_within.reshape(-1)[at] = False
    is_inner = is_within.reshape(-1)[places]
    inner = own[is_inner]
    inside = np.bincount(inner, values[places[is_inner], 0], minlength=n_numbers)
    n_inner = np.bincount(inner, minlength=n_numbers)
    signs = np.column_stack([peak, inside / np.maximum(n_inner, 1), n_shared / np.maximum(n_outer, 1)])
    return signs[1:]


def take_score_model(reader: Fields) -> ScoreModel:
    """Return the model that the ``score`` of a model card describes, and note its problems."""
    weights = reader.object("weights")
    model = ScoreModel(
        intercept=reader.number("intercept", -MAX_WEIGHT, MAX_WEIGHT),
        weights=ScoreWeights(*(weights.number(one.name, -MAX_WEIGHT, MAX_WEIGHT) for one in fields(ScoreWeights))),
    )
    weights.close()
    reader.close()
    return model
