"""What an image looks like, in numbers, and how far that is from the training images."""

from __future__ import annotations

import json
from dataclasses import asdict, astuple, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.json_fields import Fields
from nuclei_runtime.steps.novelty import MIN_SIDE_PX, N_NUMBERS, Appearance, Familiar, appearance_of, take_familiar


def as_input(grey: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.repeat(grey.astype(np.float32)[..., np.newaxis], 3, axis=-1)


def seen(image: NDArray[np.float32]) -> Appearance:
    found = appearance_of([image])
    assert found is not None
    return found


FIELD = as_input(fluorescence_field(0)[0] / 255)
IDENTITY = tuple(tuple(float(row == column) for column in range(N_NUMBERS)) for row in range(N_NUMBERS))


def test_brightness_and_contrast_are_those_of_squares() -> None:
    halves = np.zeros((64, 64))
    halves[:, 32:] = 0.8
    found = seen(as_input(halves))
    assert found.brightness == pytest.approx(0.4)
    assert found.contrast == pytest.approx(0.4)
    assert found.skewness == pytest.approx(0, abs=1e-3)
    assert found.detail_16 == found.detail_1 == pytest.approx(np.log(1e-6))  # the edge lies between the squares


def test_a_chequerboard_has_detail_of_one_size_only() -> None:
    rows, columns = np.mgrid[:64, :64]
    for size, name in ((1, "detail_1"), (4, "detail_4"), (16, "detail_16")):
        found = seen(as_input((rows // size + columns // size) % 2))
        details = {name: value for name, value in vars(found).items() if name.startswith("detail")}
        assert max(details, key=details.__getitem__) == name
        assert details[name] == pytest.approx(np.log(0.25))
        assert sum(value > np.log(1e-5) for value in details.values()) == 1


def test_colours_are_differences_of_channels() -> None:
    image = as_input(np.full((32, 32), 0.5))
    image[..., 2] = 0.9
    found = seen(image)
    assert (found.red_green, found.green_blue) == (0.0, pytest.approx(-0.4))
    image[:16, :, 2] = 0.5
    assert seen(image).green_blue_contrast == pytest.approx(0.2)


def test_parts_count_by_their_pixels() -> None:
    dark, bright = as_input(np.zeros((32, 64))), as_input(np.ones((32, 32)))
    found = appearance_of([dark, bright])
    assert found is not None
    assert found.brightness == pytest.approx(1 / 3)


def test_a_part_without_colours_counts_like_any_other() -> None:
    coloured, grey = as_input(np.zeros((32, 32))), as_input(np.zeros((32, 32)))
    coloured[..., 0] = 0.8
    for difference in (0, 1e-6):
        grey[0, 0, 0] = difference
        found = appearance_of([coloured, grey])
        assert found is not None
        assert found.red_green == pytest.approx(0.4)
        assert found.red_green_contrast == pytest.approx(0.4)


def test_an_image_cut_at_squares_looks_the_same() -> None:
    whole, cut = seen(FIELD), appearance_of([FIELD[:96], FIELD[96:]])
    assert cut is not None
    np.testing.assert_allclose(astuple(cut), astuple(whole), rtol=1e-9)


def test_a_small_part_has_no_numbers() -> None:
    assert appearance_of([]) is None
    assert appearance_of([FIELD[: MIN_SIDE_PX - 1]]) is None
    assert appearance_of([FIELD[: MIN_SIDE_PX - 1], FIELD]) == seen(FIELD)


def test_the_distance_is_in_standard_deviations() -> None:
    mean = seen(FIELD)
    familiar = Familiar(mean, tuple(tuple(10 * value for value in row) for row in IDENTITY))
    assert familiar.distance(mean) == 0
    other = replace(mean, brightness=mean.brightness + 0.3, detail_2=mean.detail_2 - 0.4)
    assert familiar.distance(other) == pytest.approx(5)
    np.testing.assert_allclose(familiar.whitened(other)[[0, 8]], [3, -4])


def card_of(familiar: Familiar) -> dict[str, Any]:
    return json.loads(json.dumps(asdict(familiar)))


def test_a_card_states_it() -> None:
    familiar, problems = Familiar(seen(FIELD), IDENTITY), list[str]()
    assert take_familiar(Fields(card_of(familiar), "familiar", problems)) == familiar
    assert problems == []


def test_a_card_that_states_it_wrongly_is_refused() -> None:
    card, problems = card_of(Familiar(seen(FIELD), IDENTITY[1:])), list[str]()
    card["means"] |= {"detail_1": "fine", "detail_32": 0}
    take_familiar(Fields(card, "familiar", problems))
    assert problems == [
        "familiar.means.detail_1: expected a number from -1e+06 to 1e+06, found 'fine'",
        "familiar.means.detail_32: unknown field",
        "familiar.whitening: expected 12 lists of 12 numbers from -1e+06 to 1e+06, found a list",
    ]
