"""Which images of a pool to annotate: those that stand for the most images that the model is in doubt about.

An image that is annotated helps with those that look like it, and each further one of a kind helps less than the one
before: what a model gains grows about with the logarithm of the number of images. How much a set S of images would
teach is therefore

    F(S) = sum over all images i of  doubt(i) * log(1 + sum over s in S and annotated before of  likeness(i, s))

and the images are chosen one by one, each the one that adds most to F. These are doubt and representativeness as in
Suggestive Annotation (Yang et al., MICCAI 2017, doi 10.1007/978-3-319-66179-7_46), in one of the submodular functions
of Wei, Iyer and Bilmes (Submodularity in data subset selection and active learning, ICML 2015), for which the greedy
choice reaches at least 63 % of the largest F (Nemhauser, Wolsey and Fisher 1978). A kind of image gets its share of the
choices by all the doubt in it; an outlier stands for itself alone.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

REACH = 0.25
"""Images whose coordinates differ by this much in quadratic mean are alike by exp(-1/2) = 0.61; by twice as much, by
0.14."""

ALIKE = 0.6
"""From this likeness on, an image counts as one that looks like another."""

ALMOST_THE_SAME, THE_SAME = 0.9, 1.0
"""From the first likeness on, as of two frames of a time series, an image is suggested only when all other images are;
from the second on, which is that of copies, never."""


@dataclass(frozen=True)
class Choice:
    """An image that is suggested.

    Attributes
    ----------
    index : int
        In the pool.
    gain : float
        What it adds to F.
    n_alike : int
        Other images of the pool that look like it.
    """

    index: int
    gain: float
    n_alike: int


def doubts_of(trusts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how much there is to gain in each image: the square of the share of nuclei that are expected to be wrong.

    Squared, because most images of a pool are ordinary ones, whose small doubts together would outweigh the large ones
    of a few others, although little can be gained in them: no model and no annotator is right about all nuclei.

    Parameters
    ----------
    trusts : (N,) ndarray
        The share of nuclei that are expected to be right, 0 to 1.
    """
    return np.asarray((1.0 - trusts) ** 2)


def choose(
    coordinates: NDArray[np.float64], doubts: NDArray[np.float64], n: int, annotated: NDArray[np.float64]
) -> list[Choice]:
    """Choose images of a pool, the one that teaches most first; of equals, the first.

    Parameters
    ----------
    coordinates : (N, D) ndarray
        Of the images of the pool.
    doubts : (N,) ndarray
        See `doubts_of`.
    n : int
        How many to choose at most.
    annotated : (M, D) ndarray
        Coordinates of images that have been annotated already.
    """
    taught, nearest = np.zeros(len(coordinates)), np.zeros(len(coordinates))

    def learn(one: NDArray[np.float64]) -> None:
        alike = likeness(coordinates, one)
        np.add(taught, alike, out=taught)
        np.maximum(nearest, alike, out=nearest)

    def gain(index: int) -> float:
        alike = likeness(coordinates, coordinates[index])
        return float((doubts * np.log1p(alike / (1 + taught))).sum())

    for one in annotated:
        learn(one)
    choices: list[Choice] = []
    for limit in (ALMOST_THE_SAME, THE_SAME):
        # Gains only shrink, so that most need not be computed again (Minoux 1978).
        queue = [(-gain(index), index) for index in np.flatnonzero(nearest < limit).tolist()]
        heapq.heapify(queue)
        while queue and len(choices) < n:
            _, index = heapq.heappop(queue)
            if nearest[index] >= limit:
                continue
            now = gain(index)
            if queue and (-now, index) > queue[0]:
                heapq.heappush(queue, (-now, index))
                continue
            alike = likeness(coordinates, coordinates[index])
            choices.append(Choice(index, now, int(np.count_nonzero(alike >= ALIKE)) - 1))
            learn(coordinates[index])
        if len(choices) == n:
            break
    return choices


def likeness(coordinates: NDArray[np.float64], one: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how alike images are to one, 0 to 1, from the mean square of the differences of their coordinates."""
    return np.asarray(np.exp(-((coordinates - one) ** 2).mean(axis=1) / (2 * REACH**2)))
