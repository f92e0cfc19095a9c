"""What the training nuclei tell about the model."""

from __future__ import annotations

import numpy as np

from nuclei_train.recipes.model_description import describe_training, smallest_area_px


def test_a_few_specks_do_not_count_as_the_smallest_nucleus() -> None:
    areas = np.concatenate([np.full(4, 8), np.arange(21, 1017)])
    assert smallest_area_px(areas) == 21
    assert smallest_area_px(np.array([50])) == 50
    assert smallest_area_px(np.arange(21, 100)) == 21


def test_the_diameter_is_that_of_a_disk_with_the_median_area() -> None:
    assert describe_training(np.array([1, 314, 10_000])) == {"training_nucleus_diameter_px": 20.0}
