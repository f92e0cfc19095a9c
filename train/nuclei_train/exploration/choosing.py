"""Which images of a pool to annotate: those that stand for the most images that the model is in doubt about.

An image that is annotated helps with those that look like it. How much a set S of images would teach is

    F(S) = sum over all images i of  doubt(i) * max over s in S or annotated before of  likeness(i, s)

and the images are chosen one by one, each the one that adds most to F. This is the representativeness of Suggestive
Annotation (Yang et al., MICCAI 2017, doi 10.1007/978-3-319-66179-7_46), in which the doubt weights each image instead
of selecting the first half of them. F is monotone and submodular, so that the greedy choice reaches at least 63 % of
the largest F of as many images (Nemhauser, Wolsey and Fisher 1978): an outlier stands for itself alone, and of images
that are alike, one is enough.
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


@dataclass(frozen=True)
class Choice:
    """An image that is suggested.

    Attributes
    ----------
    index : int
        In the pool.
    gain : float
        What it adds to F: the number of images that it stands for, each weighted by its doubt, as far as no earlier
        choice stands for them.
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
        How many to choose at most: images that add nothing are not chosen.
    annotated : (M, D) ndarray
        Coordinates of images that have been annotated already.
    """
    covered = np.zeros(len(coordinates))
    for one in annotated:
        covered = np.maximum(covered, likeness(coordinates, one))

    def gain(index: int) -> float:
        return float((doubts * np.maximum(likeness(coordinates, coordinates[index]) - covered, 0.0)).sum())

    # Gains only shrink, so that most need not be computed again (Minoux 1978).
    queue = [(-gain(index), index) for index in range(len(coordinates))]
    heapq.heapify(queue)
    choices: list[Choice] = []
    while queue and len(choices) < n:
        _, index = heapq.heappop(queue)
        now = gain(index)
        if queue and (-now, index) > queue[0]:
            heapq.heappush(queue, (-now, index))
            continue
        if now <= 0:  # what is left is like something that was chosen, or not in doubt
            break
        alike = likeness(coordinates, coordinates[index])
        choices.append(Choice(index, now, int(np.count_nonzero(alike >= ALIKE)) - 1))
        covered = np.maximum(covered, alike)
    return choices


def likeness(coordinates: NDArray[np.float64], one: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how alike images are to one, 0 to 1, from the mean square of the differences of their coordinates."""
    return np.asarray(np.exp(-((coordinates - one) ** 2).mean(axis=1) / (2 * REACH**2)))
