"""The choice of views is fitted on what the validation images promise as they are."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from nuclei_runtime.metrics import match
from nuclei_runtime.steps.instances import find_instances
from nuclei_runtime.steps.view_choice import look_at
from nuclei_train.recipes.view_fit import DOUBT_PERCENT, MARGIN, MIN_IMAGES, TRIGGER_PERCENT, fit_views
from tests.train.recipes.conftest import METHOD

N_SQUARES = 20


def image_of(quality: float) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Return maps that are the surer, the more of the nuclei are right, and the truth."""
    truth, maps = np.zeros((50, 100), np.int32), np.zeros((50, 100, 3), np.float32)
    for index in range(N_SQUARES):
        row, column = 10 * (index // 10) + 2, 10 * (index % 10) + 2
        truth[row : row + 6, column : column + 6] = index + 1
        moved = 0 if index < quality * N_SQUARES else 25  # found in another place
        maps[row + moved : row + moved + 6, column : column + 6] = 0.6 + 0.4 * quality, quality, 0
    return maps, truth


QUALITIES = np.linspace(0.5, 1, 24)


def test_it_predicts_the_ap_of_the_images() -> None:
    maps, truths = zip(*map(image_of, QUALITIES), strict=True)
    choice = fit_views(maps, truths, METHOD)
    assert choice is not None
    labels = [find_instances(one, METHOD) for one in maps]
    expected = [choice.expected_ap(look_at([(one, found)]).signs) for one, found in zip(maps, labels, strict=True)]
    scores = [match(truth, found).ap()[0] for truth, found in zip(truths, labels, strict=True)]
    assert min(scores) < 0.5 < max(scores)
    assert np.corrcoef(expected, scores)[0, 1] > 0.95
    assert choice.trigger == pytest.approx(np.percentile(expected, TRIGGER_PERCENT), abs=0.001)
    assert choice.doubt == pytest.approx(np.percentile(expected, DOUBT_PERCENT), abs=0.001)
    assert choice.margin == MARGIN


def test_a_few_images_are_not_enough() -> None:
    maps, truths = zip(*map(image_of, QUALITIES[: MIN_IMAGES - 1]), strict=True)
    assert fit_views(maps, truths, METHOD) is None
