"""Limits are fitted such that few of the validation images are flagged, and others are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nuclei_runtime.steps.evidence import Evidence
from nuclei_runtime.steps.flags import Flag, FlagLimits, flags_of
from nuclei_runtime.steps.novelty import N_NUMBERS, Appearance
from nuclei_train.recipes.flag_fit import fit_flags
from nuclei_train.recipes.novelty_fit import MIN_IMAGES

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


TRAINING, VALIDATION = appearances(300), evidence(200)


def fitted() -> FlagLimits:
    limits = fit_flags(TRAINING, VALIDATION)
    assert limits is not None
    return limits


def seen(one: Evidence, limits: FlagLimits) -> tuple[Flag, ...]:
    novelty = None if one.appearance is None else limits.familiar.distance(one.appearance)
    return flags_of(replace(one, novelty=novelty), limits, None)


def test_at_most_one_ordinary_image_in_twenty_is_flagged() -> None:
    limits = fitted()
    found = [seen(one, limits) for one in VALIDATION]
    assert 0.02 < np.mean([bool(flags) for flags in found]) <= 0.05
    assert {flag for flags in found for flag in flags} == {Flag.UNFAMILIAR, Flag.LOW_EXPECTED_AP}


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


def test_a_few_training_images_are_not_enough() -> None:
    assert fit_flags(appearances(MIN_IMAGES - 1), VALIDATION) is None
    assert fit_flags(TRAINING, [Evidence()]) is None
