"""How alike images are: in units of the training images, or of the pool where these are not known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nuclei_runtime.model.card import ModelCard
from nuclei_runtime.segmentation.segmenter import Segmenter
from nuclei_runtime.steps.flags import FlagLimits
from nuclei_runtime.steps.novelty import N_NUMBERS, Appearance, Familiar
from nuclei_train.exploration.ruler import N_COORDINATES, ruler_of

PLAIN = Appearance(*np.zeros(N_NUMBERS))
FAMILIAR = Familiar(PLAIN, tuple(tuple(row) for row in (10 * np.eye(N_NUMBERS)).tolist()))
"""Training images whose numbers have standard deviations of 0.1."""


@pytest.fixture(scope="module")
def card() -> ModelCard:
    return replace(Segmenter().card, flags=FlagLimits(0.5, 0.5, 2.0, 0.5, 0.1, 5.0, FAMILIAR))


def test_coordinates_are_logarithmic_far_from_the_training_images(card: ModelCard) -> None:
    ruler = ruler_of(card, [])
    near = ruler.coordinates(replace(PLAIN, brightness=0.01), card.training_nucleus_diameter_px)
    assert near.shape == (N_COORDINATES,)
    assert near[0] == pytest.approx(0.1, rel=0.01)
    assert not near[1:].any()
    far, farther = (ruler.coordinates(replace(PLAIN, brightness=one), None)[0] for one in (10.0, 20.0))
    assert farther - far == pytest.approx(np.log(2), rel=0.01)


def test_the_size_of_the_nuclei_counts_in_octaves(card: ModelCard) -> None:
    ruler = ruler_of(card, [])
    assert ruler.coordinates(PLAIN, 4 * card.training_nucleus_diameter_px)[-1] == pytest.approx(2)
    assert ruler.coordinates(PLAIN, None)[-1] == 0


def test_a_model_is_trusted_less_the_further_an_image_is_from_what_it_knows(card: ModelCard) -> None:
    ruler = ruler_of(card, [])
    assert ruler.familiarity(replace(PLAIN, red_green=0.4)) == 1
    assert ruler.familiarity(replace(PLAIN, red_green=2.0)) == pytest.approx(0.25)


def test_words_say_how_an_image_differs(card: ModelCard) -> None:
    ruler, known = ruler_of(card, []), card.training_nucleus_diameter_px
    assert ruler.in_words(PLAIN, known) == ""
    assert ruler.in_words(replace(PLAIN, brightness=-0.5, red_green=1.0), known) == "reddish, dark"
    assert ruler.in_words(replace(PLAIN, brightness=0.19), 2.5 * known) == "large nuclei"


def test_without_training_images_the_pool_is_the_unit_and_nothing_is_called_new(card: ModelCard) -> None:
    pool = [replace(PLAIN, brightness=one) for one in (0.1, 0.3)]
    ruler = ruler_of(replace(card, flags=None), pool)
    low, high = (ruler.coordinates(one, None)[0] for one in pool)
    assert low == pytest.approx(-np.arcsinh(1))
    assert high == pytest.approx(np.arcsinh(1))
    assert ruler.familiarity(replace(PLAIN, red_green=100.0)) == 1
    assert ruler.in_words(replace(PLAIN, red_green=100.0), 1e6) == ""
