"""An image is flagged for what is unordinary in it, and each flag says why and what to do."""

from __future__ import annotations

import json
import pickle
from dataclasses import asdict, replace
from typing import Any

import pytest

from nuclei_runtime.json_fields import Fields
from nuclei_runtime.steps.contrast import Contrast
from nuclei_runtime.steps.evidence import Evidence
from nuclei_runtime.steps.flags import (
    Flag,
    FlagLimits,
    complete_flags,
    flags_of,
    joined,
    split,
    take_flag_limits,
)
from nuclei_runtime.steps.novelty import N_NUMBERS, Appearance, Familiar

FAMILIAR = Familiar(Appearance(*[0.0] * N_NUMBERS), ((0.0,) * N_NUMBERS,) * N_NUMBERS)
LIMITS = FlagLimits(
    min_expected_ap=0.6,
    min_size=0.5,
    max_size=2.0,
    max_saturation=0.2,
    min_sharpness=0.4,
    max_novelty=5.0,
    familiar=FAMILIAR,
)
ORDINARY = Evidence(
    Contrast(0.0, 100.0, 0.5, brightest=120.0),
    expected_ap=0.8,
    novelty=3.0,
    size=1.0,
    saturation=0.01,
    sharpness=0.7,
    flatness=0.77,
)


def test_an_ordinary_image_has_no_flag() -> None:
    assert flags_of(ORDINARY, LIMITS, None) == ()
    assert flags_of(Evidence(), LIMITS, None) == ()
    assert flags_of(Evidence(), None, None) == ()


@pytest.mark.parametrize(
    ("changes", "flag"),
    [
        ({"contrast": Contrast(0.0, 0.0, 0.0)}, "blank"),
        ({"contrast": Contrast(7.0, 7.0)}, "blank"),
        ({"contrast": Contrast(0.0, 100.0, 0.5, brightest=601.0)}, "contrast"),
        ({"flatness": 0.96}, "flat"),
        ({"saturation": 0.21}, "saturated"),
        ({"sharpness": 0.39}, "out_of_focus"),
        ({"size": 2.01}, "nucleus_size"),
        ({"size": 0.49}, "nucleus_size"),
        ({"novelty": 5.01}, "unfamiliar"),
        ({"expected_ap": 0.59}, "low_expected_ap"),
    ],
)
def test_what_is_unordinary_is_flagged(changes: dict[str, Any], flag: str) -> None:
    (raised,) = flags_of(replace(ORDINARY, **changes), LIMITS, None)
    assert (raised, raised.value) == (flag, flag)
    assert raised.reason
    assert raised.advice


def test_the_user_may_ask_for_more_or_less_than_what_is_ordinary() -> None:
    assert flags_of(ORDINARY, LIMITS, 0.9) == (Flag.LOW_EXPECTED_AP,)
    assert flags_of(replace(ORDINARY, expected_ap=0.1), LIMITS, 0.0) == ()
    assert flags_of(ORDINARY, None, 0.9) == (Flag.LOW_EXPECTED_AP,)


def test_without_limits_only_what_holds_for_every_network_is_flagged() -> None:
    strange = replace(ORDINARY, saturation=1.0, sharpness=0.0, size=9.0, novelty=99.0, expected_ap=0.0)
    assert flags_of(strange, None, None) == ()
    assert flags_of(replace(strange, contrast=Contrast(0.0, 1.0, 0.5, brightest=99.0)), None, None) == (Flag.CONTRAST,)


def test_where_nothing_is_found_the_flags_of_nuclei_are_replaced() -> None:
    every = tuple(flag for flag in Flag if flag is not Flag.BLANK)
    assert complete_flags(every, 1) == every
    assert complete_flags(every, 0) == (Flag.NOTHING_FOUND, Flag.FLAT, Flag.CONTRAST, Flag.UNFAMILIAR)
    assert complete_flags((), 0) == (Flag.NOTHING_FOUND,)
    assert complete_flags((Flag.BLANK,), 0) == (Flag.BLANK,)


def test_a_flag_is_its_name_and_can_be_written_and_pickled() -> None:
    assert Flag("blank") is Flag.BLANK
    assert pickle.loads(pickle.dumps(Flag.BLANK)) is Flag.BLANK
    assert json.dumps(Flag.BLANK) == '"blank"'
    flags = (Flag.SATURATED, Flag.UNFAMILIAR)
    assert joined(flags) == "saturated;unfamiliar"
    assert split("unfamiliar;new_in_another_version;saturated") == flags
    assert (joined(()), split("")) == (None, ())


def test_a_card_states_the_limits() -> None:
    problems: list[str] = []
    card = json.loads(json.dumps(asdict(LIMITS)))
    assert take_flag_limits(Fields(card, "flags", problems)) == LIMITS
    assert problems == []
    take_flag_limits(Fields({**card, "max_size": -1, "other": 1}, "flags", problems))
    assert problems == ["flags.max_size: expected a number from 0 to 100, found -1", "flags.other: unknown field"]
