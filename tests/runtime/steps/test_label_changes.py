"""What changed between two label images."""

from __future__ import annotations

import numpy as np
import pytest

from nuclei_runtime import ImageShapeError, ImageValueError, LabelChanges, compare_labels
from nuclei_runtime.checks.synthetic import fluorescence_field

_, FIELD = fluorescence_field(3, height=120, width=160, n_nuclei=12)
N = int(FIELD.max())


def test_nothing_changed_whatever_the_numbers() -> None:
    renumbered = np.where(FIELD > 0, 5 + 7 * FIELD, 0)
    assert compare_labels(FIELD, renumbered) == LabelChanges(N, N, N, 0, 0, 0, 0, 0)


def test_each_change_is_counted_once() -> None:
    """One nucleus is removed, one loses its rim, one is cut in two, two become one, and one is drawn anew."""
    before = np.zeros((60, 100), np.int32)
    for number, column in enumerate((0, 12, 24, 36, 46, 60), start=1):
        before[10:20, column : column + 10] = number
    after = before.copy()
    after[before == 1] = 0
    after[10, 12:22] = 0
    after[10:20, 29:34] = 70_000
    after[before == 5] = 4
    after[40:50, 40:50] = 2_000_000_000
    found = compare_labels(before, after)
    assert found == LabelChanges(before=6, after=6, unchanged=1, redrawn=1, added=1, removed=1, split=1, merged=1)


def test_a_nucleus_that_moved_away_is_removed_and_added() -> None:
    before, after = np.zeros((2, 40, 40), np.uint8)
    before[5:15, 5:15] = 1
    after[5:15, 10:20] = 1  # shares half, which is not more than half
    assert compare_labels(before, after) == LabelChanges(1, 1, 0, 0, 1, 1, 0, 0)
    after[5:15, 9] = 1
    assert compare_labels(before, after).redrawn == 1


@pytest.mark.parametrize("empty", ["before", "after", "both"])
def test_empty_label_images_are_label_images(empty: str) -> None:
    before, after = (np.zeros_like(FIELD) if empty in (name, "both") else FIELD for name in ("before", "after"))
    found = compare_labels(before, after)
    assert (found.removed, found.added) == (int(before.max()), int(after.max()))
    assert found.unchanged == 0


def test_what_is_no_label_image_is_refused() -> None:
    with pytest.raises(ImageShapeError, match="120 x 160 as in the earlier one"):
        compare_labels(FIELD, FIELD[:50])
    with pytest.raises(ImageShapeError, match=r"shape \(120, 160, 1\), expected a label image"):
        compare_labels(FIELD, FIELD[..., np.newaxis])
    with pytest.raises(ImageValueError, match="found labels of type float64"):
        compare_labels(FIELD / 1.0, FIELD)
    with pytest.raises(ImageValueError, match="found labels of -1 to "):
        compare_labels(FIELD - 1, FIELD)
