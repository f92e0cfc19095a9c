"""Which views are looked at, and which one is taken."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest

from nuclei_runtime.steps.scale import Scale
from nuclei_runtime.steps.view import AS_IT_IS, View, other_views
from nuclei_runtime.steps.view_choice import MIN_NUCLEI, Look, Signs, ViewChoice, choose, look_at

KNOWN_PX = 20.0
CHOICE = ViewChoice(0.0, Signs(peak=1.0, peak_by_area=0.0, inside=0.0, ambiguous=0.0, log_count=0.0), 0.8, 0.6, 0.02)
"""Promises the mean peak."""
HALF, THIRD, QUARTER, TWICE, FOURFOLD = Scale(1, 2), Scale(1, 3), Scale(1, 4), Scale(2, 1), Scale(4, 1)


def seen(peak: float, diameter_px: float = KNOWN_PX, n_nuclei: int = 50) -> Look:
    return Look(Signs(peak, 0, 0, 0, 0), n_nuclei, diameter_px)


def looked(looks: Mapping[View, Look | None], views: tuple[View, ...] | None = None) -> tuple[View, float, list[str]]:
    """Return the choice, what it promises, and the views that were looked at."""
    at: list[str] = []

    def look(view: View) -> Look | None:
        at.append(str(view))
        return looks.get(view, seen(0.0))

    view, expected_ap = choose(CHOICE, views or (AS_IT_IS, *other_views()), KNOWN_PX, look)
    return view, expected_ap, at


def test_what_promises_much_is_looked_at_once() -> None:
    assert looked({AS_IT_IS: seen(0.8)}) == (AS_IT_IS, 0.8, ["1/1,rgb"])


def test_a_fair_image_is_looked_at_only_where_the_size_of_its_nuclei_suggests_it() -> None:
    assert looked({AS_IT_IS: seen(0.7)})[2] == ["1/1,rgb"]
    large = looked({AS_IT_IS: seen(0.7, 60), View(HALF): seen(0.75, 60)})
    assert large == (View(HALF), 0.75, ["1/1,rgb", "1/2,rgb"])
    small = looked({AS_IT_IS: seen(0.7, 9), View(TWICE): seen(0.75, 9)})
    assert small == (View(TWICE), 0.75, ["1/1,rgb", "2/1,rgb"])


def test_it_is_reduced_further_only_while_the_nuclei_still_look_large() -> None:
    huge = looked({AS_IT_IS: seen(0.7, 110), View(HALF): seen(0.75, 110), View(THIRD): seen(0.79, 100)})
    assert huge == (View(THIRD), 0.79, ["1/1,rgb", "1/2,rgb", "1/3,rgb"])


def test_it_is_enlarged_further_only_while_the_nuclei_still_look_small() -> None:
    tiny = looked({AS_IT_IS: seen(0.7, 4), View(TWICE): seen(0.75, 4), View(FOURFOLD): seen(0.79, 4)})
    assert tiny == (View(FOURFOLD), 0.79, ["1/1,rgb", "2/1,rgb", "4/1,rgb"])


def test_a_doubtful_image_is_looked_at_as_every_stain_and_the_best_of_them_at_other_scales() -> None:
    he = View(Scale(), "he")
    looks = {AS_IT_IS: seen(0.3), he: seen(0.5), View(Scale(), "hdab"): seen(0.4), View(THIRD, "he"): seen(0.55)}
    view, expected_ap, at = looked(looks)
    assert (view, expected_ap) == (View(THIRD, "he"), 0.55)
    assert at == ["1/1,rgb", "1/1,he", "1/1,hdab", "1/2,he", "1/3,he", "1/4,he"]


def test_a_stain_of_a_grey_image_is_no_view() -> None:
    looks: dict[View, Look | None] = {view: None for view in other_views() if view.stain != "rgb"}
    assert looked({AS_IT_IS: seen(0.3), **looks})[0] == AS_IT_IS


def test_scales_at_which_the_network_sees_the_same_are_no_views() -> None:
    looks: dict[View, Look | None] = dict.fromkeys(other_views(stain="rgb"))
    assert looked({AS_IT_IS: seen(0.0, 0, 0), **looks})[:2] == (AS_IT_IS, 0.0)


def test_another_view_must_promise_more_by_the_margin() -> None:
    assert looked({AS_IT_IS: seen(0.5), View(HALF): seen(0.51)})[:2] == (AS_IT_IS, 0.5)
    assert looked({AS_IT_IS: seen(0.5), View(HALF): seen(0.53)})[0] == View(HALF)


@pytest.mark.parametrize("found", [seen(0.0, 0, 0), seen(0.3)])
def test_a_view_with_few_nuclei_is_taken_only_if_it_promises_as_much_as_an_image_looked_at_once(found: Look) -> None:
    promise = CHOICE.expected_ap(found.signs)
    few = {AS_IT_IS: found, View(HALF): seen(0.79, 40, MIN_NUCLEI - 1)}
    assert looked(few)[:2] == (AS_IT_IS, promise)
    assert looked({**few, View(HALF): seen(0.8, 40, 1)})[:2] == (View(HALF), 0.8)


def test_where_nothing_is_found_another_view_must_be_beyond_doubt() -> None:
    empty = seen(0.0, 0, 0)
    assert looked({AS_IT_IS: empty, View(HALF): seen(0.6, 40, MIN_NUCLEI)})[:2] == (AS_IT_IS, 0.0)
    assert looked({AS_IT_IS: empty, View(HALF): seen(0.61, 40, MIN_NUCLEI)})[0] == View(HALF)
    assert looked({AS_IT_IS: seen(0.1), View(HALF): seen(0.2)})[0] == View(HALF)


def test_an_image_whose_nuclei_look_large_in_its_view_is_not_averaged() -> None:
    """Every look is without test-time augmentation."""
    views = (View(tta=True), *other_views())
    assert looked({AS_IT_IS: seen(0.8, 34)}, views) == (View(tta=True), 0.8, ["1/1,rgb"])
    assert looked({AS_IT_IS: seen(0.8, 35)}, views) == (AS_IT_IS, 0.8, ["1/1,rgb"])
    large = {AS_IT_IS: seen(0.7, 60), View(HALF): seen(0.79, 60)}
    assert looked(large, views) == (View(HALF, tta=True), 0.79, ["1/1,rgb", "1/2,rgb"])
    assert looked({**large, View(HALF): seen(0.71, 60)}, views)[0] == AS_IT_IS
    assert looked({AS_IT_IS: seen(0.9, 60)}, (View(tta=True),))[0] == View(tta=True)  # nothing is left to choose


def test_a_fixed_scale_leaves_the_stains_and_a_fixed_stain_the_scales() -> None:
    assert [str(view) for view in other_views(HALF)] == ["1/2,he", "1/2,hdab"]
    assert {view.stain for view in other_views(stain="he")} == {"he"}
    assert len(other_views(HALF, "he")) == 0
    views = (View(HALF), *other_views(HALF))
    view, _, at = looked({View(HALF): seen(0.3), View(HALF, "he"): seen(0.4)}, views)
    assert (view, at) == (View(HALF, "he"), ["1/2,rgb", "1/2,he", "1/2,hdab"])


def test_signs_are_those_of_the_nuclei() -> None:
    labels = np.zeros((8, 12), np.int32)
    labels[1:3, 1:3], labels[4:8, 4:8] = 1, 2  # areas 4 and 16
    maps = np.zeros((8, 12, 3), np.float32)
    maps[labels == 1] = 0.75, 0.5, 0
    maps[labels == 2] = 1, 0.25, 0
    maps[5, 5, 1] = 1
    maps[0, :5, 0] = 0.3  # ambiguous, and so are the four pixels of the first nucleus
    look = look_at([(maps, labels)])
    assert look.n_nuclei == 2
    assert look.signs.peak == pytest.approx(0.75)
    assert look.signs.peak_by_area == pytest.approx((4 * 0.5 + 16) / 20)
    assert look.signs.inside == pytest.approx((4 * 0.75 + 16) / 20)
    assert look.signs.ambiguous == pytest.approx(9 / 20)
    assert look.signs.log_count == pytest.approx(math.log(3))
    diameters = [math.sqrt(4 * area / math.pi) for area in (4, 16)]
    assert look.diameter_px == pytest.approx((4 * diameters[0] + 16 * diameters[1]) / 20)
    both = look_at([(maps, labels), (maps, labels)])
    assert both.n_nuclei == 4
    assert (both.signs.peak, both.signs.ambiguous) == pytest.approx((look.signs.peak, look.signs.ambiguous))


def test_an_empty_field_has_no_signs_of_nuclei() -> None:
    nothing = look_at([(np.zeros((5, 5, 3), np.float32), np.zeros((5, 5), np.int32))])
    assert nothing == Look(Signs(0, 0, 0, 0, 0), 0, 0)
