"""Which nuclei are left out, and that the others are numbered without gaps."""

from __future__ import annotations

import numpy as np
import pytest

from nuclei_runtime.errors import ArgumentError, ImageValueError
from nuclei_runtime.steps.sieve import Area, Sieve, Sifting, parse_area

LABELS = np.zeros((20, 30), np.int32)
LABELS[0:3, 5:8] = 1  # on the edge, 9 pixels
LABELS[5:9, 5:9] = 2  # 16
LABELS[5:7, 12:14] = 3  # 4
LABELS[10:16, 20:30] = 4  # on the edge, 60
LABELS[12:17, 5:10] = 5  # 25


@pytest.mark.parametrize(
    ("sieve", "kept"),
    [
        (Sieve(), [1, 2, 3, 4, 5]),
        (Sieve(exclude_border=True), [2, 3, 5]),
        (Sieve(min_area=Area(16, "px")), [2, 4, 5]),
        (Sieve(max_area=Area(16, "px")), [1, 2, 3]),
        (Sieve(exclude_border=True, min_area=Area(16, "px"), max_area=Area(16, "px")), [2]),
        (Sieve(min_area=Area(8, "um2")), [2, 4, 5]),  # half a square micrometre a pixel
        (Sieve(min_area=Area(100, "px")), []),
    ],
)
def test_the_nuclei_that_are_kept_are_numbered_without_gaps(sieve: Sieve, kept: list[int]) -> None:
    found, _, n_left_out = Sifting(sieve, LABELS.shape, (1.0, 0.5)).sift(LABELS)
    expected = np.zeros_like(LABELS)
    for number, label in enumerate(kept, 1):
        expected[label == LABELS] = number
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == LABELS.dtype
    assert n_left_out == 5 - len(kept)


@pytest.mark.parametrize("side_um", [0.1, 0.2, 0.325, 0.65, 1 / 3, 0.4965])
@pytest.mark.parametrize("n_px", [4, 9, 16, 25, 60])
def test_an_area_in_micrometres_is_that_of_its_pixels(side_um: float, n_px: int) -> None:
    """However the product is rounded."""
    area = Area(float(f"{n_px * side_um**2:.12g}"), "um2")
    sieve = Sieve(min_area=area, max_area=area)
    found, _, n_left_out = Sifting(sieve, LABELS.shape, (side_um, side_um)).sift(LABELS)
    assert np.count_nonzero(found) == n_px
    assert n_left_out == 4


def test_blocks_are_sifted_where_they_lie_and_numbered_on() -> None:
    sifting = Sifting(Sieve(exclude_border=True), (100, 200), None)
    for origin, n_left_out, numbers in (
        ((0, 0), 1, [1, 2, 3, 4]),
        ((40, 50), 0, [5, 6, 7, 8, 9]),
        ((40, 170), 1, [10, 11, 12, 13]),
    ):
        found, _, left_out = sifting.sift(LABELS + np.where(LABELS > 0, 70, 0).astype(np.int32), origin)
        assert left_out == n_left_out
        assert np.unique(found[found > 0]).tolist() == numbers
    assert sifting.sift(np.zeros((5, 5), np.int32), (50, 50))[2] == 0


@pytest.mark.parametrize(
    ("text", "area"),
    [("50px", Area(50, "px")), ("30um2", Area(30, "um2")), ("2.5 µm²", Area(2.5, "um2")), ("0px", Area(0, "px"))],
)
def test_an_area_has_a_unit(text: str, area: Area) -> None:
    assert parse_area(text) == area


@pytest.mark.parametrize("text", ["50", "px", "-5px", "50um", "1e3px", "nanpx", ""])
def test_an_area_without_a_known_unit_is_refused(text: str) -> None:
    with pytest.raises(ArgumentError, match="50px or 30um2"):
        parse_area(text)


def test_a_range_without_an_area_and_micrometres_without_a_size_are_refused() -> None:
    with pytest.raises(ArgumentError, match="minimum area 60px is larger than the maximum area 50px"):
        Sieve(min_area=Area(60, "px"), max_area=Area(50, "px"))
    with pytest.raises(ImageValueError, match=r"--max-area 30um2 needs .* --pixel-size"):
        Sifting(Sieve(max_area=Area(30, "um2")), (9, 9), None)
