"""Limits are fitted such that few of the ordinary images are flagged, and others are."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from nuclei_runtime.steps.evidence import Evidence
from nuclei_runtime.steps.flags import Flag, FlagLimits, flags_of
from nuclei_runtime.steps.novelty import N_NUMBERS, Appearance, appearance_of
from nuclei_runtime.steps.view_choice import Signs, ViewChoice
from nuclei_train.recipes.flag_fit import DOUBTFUL_SHARE, UNLIKE_SHARE, evidence_as_it_is, fit_flags
from nuclei_train.recipes.novelty_fit import MIN_IMAGES
from tests.train.recipes.conftest import METHOD

RNG = np.random.default_rng(3)


def appearances(n: int) -> list[Appearance]:
    return [Appearance(*row) for row in RNG.normal(size=(n, N_NUMBERS)).tolist()]


def evidence(n: int) -> list[Evidence]:
    """Return what is known of ordinary images; the last one holds nothing."""
    found = [
        Evidence(
            expected_ap=ap, appearance=appearance, size=size, saturation=saturation, sharpness=0.4 + 0.4 * saturation
        )
        for appearance, ap, size, saturation in zip(
            appearances(n), RNG.uniform(0.6, 0.9, n), RNG.uniform(0.5, 2, n), RNG.uniform(0, 0.1, n), strict=True
        )
    ]
    return [*found, Evidence()]


TRAINING, VALIDATION = evidence(400), evidence(200)


def fitted() -> FlagLimits:
    limits = fit_flags(TRAINING, VALIDATION)
    assert limits is not None
    return limits


def seen(one: Evidence, limits: FlagLimits) -> tuple[Flag, ...]:
    novelty = None if one.appearance is None else limits.familiar.distance(one.appearance)
    return flags_of(replace(one, novelty=novelty), limits, None)


def test_at_most_one_ordinary_image_in_twenty_is_flagged() -> None:
    limits = fitted()
    found = [seen(one, limits) for one in (*TRAINING, *VALIDATION)]
    assert 0.03 < np.mean([bool(flags) for flags in found]) <= 0.07  # the kinds are independent here
    counts = Counter(flag for flags in found for flag in flags)
    assert counts[Flag.UNFAMILIAR] == round(UNLIKE_SHARE * 600)
    assert sum(Flag.LOW_EXPECTED_AP in seen(one, limits) for one in VALIDATION) == DOUBTFUL_SHARE * 200
    assert Flag.NUCLEUS_SIZE not in counts


def test_images_that_are_all_sharpened_give_limits_that_a_card_may_hold() -> None:
    """Their edges overshoot: an export would refuse the card."""
    sharpened = [
        [one if one.sharpness is None else replace(one, sharpness=1.0 + one.sharpness) for one in images]
        for images in (TRAINING, VALIDATION)
    ]
    limits = fit_flags(*sharpened)
    assert limits is not None
    assert limits.min_sharpness == 1.0


def test_what_is_beyond_all_of_them_is_flagged() -> None:
    limits, ordinary = fitted(), VALIDATION[np.argsort([one.expected_ap or 0 for one in VALIDATION])[100]]
    assert seen(ordinary, limits) == ()
    for change, flag in (
        ({"expected_ap": 0.5}, Flag.LOW_EXPECTED_AP),
        ({"size": 0.4}, Flag.NUCLEUS_SIZE),
        ({"size": 2.5}, Flag.NUCLEUS_SIZE),
        ({"saturation": 0.2}, Flag.SATURATED),
        ({"sharpness": 0.3}, Flag.OUT_OF_FOCUS),
        ({"appearance": Appearance(*[5.0] * N_NUMBERS)}, Flag.UNFAMILIAR),
    ):
        assert seen(replace(ordinary, **change), limits) == (flag,)  # type: ignore[arg-type]


def test_an_image_that_is_seen_as_it_is_is_judged_as_a_whole() -> None:
    maps, mask = np.zeros((64, 64, 3), np.float32), np.zeros((64, 64), np.bool_)
    for row in (8, 40):
        mask[row : row + 16, 8:24] = True
    maps[mask] = 0.9, 0.9, 0
    shown = np.repeat(mask[..., np.newaxis], 3, axis=2).astype(np.float32)
    views = ViewChoice(0.0, Signs(0.5, 0, 0, 0, 0), 0.8, 0.5, 0.02)
    found = evidence_as_it_is(shown, maps, METHOD, views, 20.0)
    assert found.expected_ap == pytest.approx(0.45)
    assert found.size == pytest.approx(16 * 2 / np.sqrt(np.pi) / 20)
    assert (found.saturation, found.sharpness, found.appearance) == (1.0, 1.0, appearance_of([shown]))
    assert evidence_as_it_is(shown * 0, maps, METHOD, views, 20.0) == Evidence()


def test_a_few_training_images_are_not_enough() -> None:
    assert fit_flags(evidence(MIN_IMAGES - 1), VALIDATION) is None
    assert fit_flags([Evidence()], [Evidence()]) is None
