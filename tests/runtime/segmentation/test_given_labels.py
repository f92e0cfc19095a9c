"""Given labels in blocks: every nucleus once and whole, with its own number, whatever the blocks are."""

from __future__ import annotations

import numpy as np
import pytest

from nuclei_runtime.arrays import Labels
from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.errors import ImageTooLargeError, ImageValueError
from nuclei_runtime.readers.labels import LabelPlane
from nuclei_runtime.readers.plane import plane_of
from nuclei_runtime.segmentation.block_search import Grid
from nuclei_runtime.segmentation.given_labels import GivenNuclei
from nuclei_runtime.steps.label_changes import compare_labels
from nuclei_runtime.steps.sieve import Sieve, parse_area

IMAGE, FIELD = fluorescence_field(4, height=150, width=210, n_nuclei=40)
NUMBERS = np.random.default_rng(0).permutation(5000)[: int(FIELD.max())] + 1
LABELS = np.where(FIELD > 0, NUMBERS[FIELD - 1], 0).astype(np.int32)
"""With gaps, and in no order."""


def label_plane(labels: Labels, numbers: tuple[int, ...] = ()) -> LabelPlane:
    return LabelPlane(lambda rows, columns: labels[rows, columns].copy(), labels.nbytes, numbers)


def given(labels: Labels, before: Labels | None = None, sieve: Sieve | None = None, core_px: int = 32) -> GivenNuclei:
    earlier = None if before is None else label_plane(before)
    return GivenNuclei(plane_of(IMAGE), label_plane(labels), earlier, sieve or Sieve(), grid=Grid(core_px=core_px))


@pytest.mark.parametrize("core_px", [16, 32, 100, 1024])
def test_each_nucleus_is_in_one_block_whole_and_with_its_number(core_px: int) -> None:
    together, covered = np.zeros_like(LABELS), np.zeros(LABELS.shape, bool)
    seen: list[int] = []
    for block in given(LABELS, core_px=core_px).blocks():
        place = block.rows, block.columns
        np.testing.assert_array_equal(block.image, IMAGE[place])
        assert not (together[place] * block.labels).any()
        together[place] += block.labels
        covered[place] = True
        seen += np.unique(block.labels[block.labels > 0]).tolist()
    np.testing.assert_array_equal(together, LABELS)
    assert covered.all()
    assert sorted(seen) == sorted(NUMBERS.tolist())


def test_a_nucleus_in_several_pieces_is_one_and_is_named() -> None:
    labels = LABELS.copy()
    first, second = labels[60, :][labels[60, :] > 0][[0, -1]]
    labels[labels == second] = first
    nuclei = given(labels)
    assert sum(len(np.unique(block.labels[block.labels > 0])) for block in nuclei.blocks()) == len(NUMBERS) - 1
    note = nuclei.corrections().note
    assert note is not None
    assert note.startswith(f"in several pieces, and each measured as one nucleus: {first}; if they are several nuclei")


def test_pieces_that_touch_at_a_corner_are_one() -> None:
    labels = np.zeros_like(LABELS)
    labels[10:14, 10:14] = labels[14:18, 14:18] = 3
    nuclei = given(labels)
    assert len([*nuclei.blocks()]) > 1
    assert nuclei.corrections().note is None


def test_a_mask_is_refused() -> None:
    with pytest.raises(ImageValueError, match=r"pieces in the label image have the same number, 255: this is a mask"):
        [*given((LABELS > 0) * np.int32(255)).blocks()]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_an_image_is_no_label_image(dtype: type) -> None:
    field = IMAGE.astype(dtype)
    if dtype is np.uint16:
        field = field * 257 + np.random.default_rng(1).integers(0, 257, field.shape, dtype)
    with pytest.raises(ImageValueError, match="scattered over the label image, like the intensities of an image"):
        [*given(field.astype(np.int32)).blocks()]


def test_no_nuclei_at_all_is_no_error() -> None:
    nuclei = given(np.zeros_like(LABELS), before=LABELS)
    assert not any(block.labels.any() for block in nuclei.blocks())
    changes = nuclei.corrections().changes
    assert changes is not None
    assert (changes.removed, changes.after) == (len(NUMBERS), 0)


def test_changes_are_counted_over_all_blocks() -> None:
    labels = LABELS.copy()
    gone, cut, *merged = NUMBERS[:4]
    labels[labels == gone] = 0
    rows, columns = np.nonzero(labels == cut)
    labels[rows[columns > columns.mean()], columns[columns > columns.mean()]] = 6000
    labels[labels == merged[0]] = merged[1]
    nuclei = given(labels, before=LABELS)
    assert len([*nuclei.blocks()]) > 20
    changes = nuclei.corrections().changes
    assert changes == compare_labels(LABELS, labels)
    assert changes is not None
    assert (changes.removed, changes.split, changes.merged) == (1, 1, 1)


def test_nuclei_that_are_left_out_leave_the_other_numbers_alone() -> None:
    areas = np.bincount(LABELS.ravel())
    limit = int(np.median(areas[NUMBERS]))
    blocks = [*given(LABELS, sieve=Sieve(min_area=parse_area(f"{limit}px"))).blocks()]
    kept = sorted(number for block in blocks for number in np.unique(block.labels[block.labels > 0]))
    assert kept == sorted(number for number in NUMBERS if areas[number] >= limit)
    assert sum(block.n_left_out for block in blocks) == len(NUMBERS) - len(kept) > 0


def test_outlines_that_others_cover_are_named() -> None:
    nuclei = GivenNuclei(plane_of(IMAGE), label_plane(LABELS, (*NUMBERS.tolist(), 9000)), None, Sieve())
    assert len([*nuclei.blocks()]) == 1
    note = nuclei.corrections().note
    assert note == "outlines without a pixel of their own, too small or covered by others, are left out: 9000"


def test_a_plane_that_does_not_fit_is_refused_before_it_is_read() -> None:
    def fail(*_: slice) -> Labels:
        raise AssertionError("it was read")

    nuclei = GivenNuclei(plane_of(IMAGE), LabelPlane(fail, 1 << 50), None, Sieve(), max_memory=1 << 30)
    with pytest.raises(ImageTooLargeError, match=r"150 x 210 pixels of uint8 need about .*: allow more"):
        [*nuclei.blocks()]
