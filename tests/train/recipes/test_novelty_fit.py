"""The training images have distances like those of a normal distribution, and others are far away."""

from __future__ import annotations

import numpy as np

from nuclei_runtime.steps.novelty import N_NUMBERS, Appearance
from nuclei_train.recipes.novelty_fit import MIN_IMAGES, fit_familiar, including

RNG = np.random.default_rng(0)
MIXED = RNG.normal(size=(N_NUMBERS, N_NUMBERS))


def images(n: int, moved: float = 0.0) -> list[Appearance]:
    numbers = RNG.normal(size=(n, N_NUMBERS)) @ MIXED + 3
    return [Appearance(row[0] + moved, *row[1:]) for row in numbers.tolist()]


def test_the_training_images_are_about_as_far_as_their_spread() -> None:
    familiar = fit_familiar(images(2000))
    assert familiar is not None
    squares = [familiar.distance(one) ** 2 for one in images(500)]
    assert 0.8 * N_NUMBERS < np.mean(squares) < N_NUMBERS  # chi-squared, less the ridge
    assert min(familiar.distance(one) for one in images(20, moved=100)) > 3 * np.sqrt(N_NUMBERS)


def test_a_colour_is_far_from_images_that_are_all_grey() -> None:
    grey = [Appearance(*row[:3], 0, 0, 0, 0, *row[7:]) for row in RNG.normal(size=(200, N_NUMBERS)).tolist()]
    familiar = fit_familiar(grey)
    assert familiar is not None
    coloured = Appearance(0, 0, 0, 0.2, 0, 0, 0, *[0.0] * 5)
    assert 20 < familiar.distance(coloured) < 1000


def test_a_few_images_are_not_enough() -> None:
    assert fit_familiar(images(MIN_IMAGES - 1)) is None


def test_further_images_are_known_afterwards() -> None:
    known = fit_familiar(images(500))
    assert known is not None
    new = images(10, moved=100)
    later = including(known, new)
    assert min(map(known.distance, new)) > 10
    assert max(map(later.distance, new)) < 6
    assert max(map(later.distance, images(100))) < 8
