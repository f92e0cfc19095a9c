"""Whether one model is better than another on the same images."""

from __future__ import annotations

import numpy as np
import pytest

from nuclei_train.evaluation.comparison import Verdict, compare


def test_the_difficulty_of_the_images_drops_out() -> None:
    """The scores of the images differ by far more than those of the models."""
    before = np.linspace(0.1, 0.9, 10)
    found = compare(before.tolist(), (before + 0.01 + np.tile([0.001, -0.001], 5)).tolist())
    assert found.difference == pytest.approx(0.01)
    assert found.verdict is Verdict.BETTER
    assert compare((before + 0.01).tolist(), before.tolist()).verdict is Verdict.WORSE


def test_a_single_image_that_gains_much_shows_nothing() -> None:
    assert compare([0.5] * 10, [0.5] * 9 + [0.9]).verdict is Verdict.SAME


@pytest.mark.parametrize(("n_images", "verdict"), [(1, Verdict.TOO_FEW), (7, Verdict.TOO_FEW), (8, Verdict.BETTER)])
def test_few_images_have_no_interval(n_images: int, verdict: Verdict) -> None:
    found = compare([0.5] * n_images, [0.6] * n_images)
    assert found.verdict is verdict
    assert (found.interval is None) == (verdict is Verdict.TOO_FEW)


def test_equal_models_are_called_better_or_worse_in_about_one_case_of_twenty() -> None:
    rng = np.random.default_rng(7)
    verdicts = [compare([0.0] * 20, rng.normal(0, 0.1, 20).tolist()).verdict for _ in range(400)]
    assert 0.03 < sum(verdict is not Verdict.SAME for verdict in verdicts) / 400 < 0.10
