"""The maps that a network learns, in cases small enough to compute by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.metrics import match
from nuclei_runtime.steps.marker_watershed import marker_watershed
from nuclei_runtime.steps.step import MAPS
from nuclei_train.batches.targets import OFFSET_SCALE_PX, TARGETS, target_maps


def labels_of(*rows: str) -> NDArray[np.int32]:
    """Digits are labels, a dot is background."""
    return np.array([[0 if mark == "." else int(mark) for mark in row] for row in rows], np.int32)


def of(name: str, labels: NDArray[np.int32]) -> NDArray[np.float32]:
    return target_maps(labels)[..., TARGETS.index(name)]


def test_the_maps_of_the_network_come_first() -> None:
    assert TARGETS[: len(MAPS)] == MAPS
    assert target_maps(labels_of("1.", "..")).shape == (2, 2, len(TARGETS))


def test_a_nucleus_by_itself() -> None:
    labels = labels_of(
        ".......",
        ".33333.",
        ".33333.",
        ".33333.",
        ".33333.",
        ".33333.",
        ".......",
    )
    maps = target_maps(labels)
    assert maps.dtype == np.float32
    np.testing.assert_array_equal(of("foreground", labels), labels > 0)
    assert not of("border", labels).any()
    rim, middle = 1.5 / 3.5, 2.5 / 3.5
    expected = np.zeros((7, 7))
    expected[1:6, 1:6] = rim
    expected[2:5, 2:5] = middle
    expected[3, 3] = 1
    np.testing.assert_allclose(of("distance", labels), expected, rtol=1e-6)
    expected = np.zeros((7, 7))
    expected[1:6, 1:6] = np.array([2, 1, 0, -1, -2])[:, np.newaxis] / OFFSET_SCALE_PX
    np.testing.assert_allclose(of("offset_row", labels), expected, atol=1e-7)
    np.testing.assert_allclose(of("offset_column", labels), expected.T, atol=1e-7)


def test_where_two_nuclei_touch_there_is_a_border_and_no_depth() -> None:
    labels = labels_of(*["111111222222"] * 3)
    np.testing.assert_array_equal(of("border", labels), [[0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0]] * 3)
    depth = np.array([5.5, 4.5, 3.5, 2.5, 1.5, 0.5]) / 5.5  # the crop's edge is not the nucleus's
    np.testing.assert_allclose(of("distance", labels), [[*depth, *depth[::-1]]] * 3, rtol=1e-6)


def test_a_nucleus_does_not_end_at_the_edge_of_the_image() -> None:
    """Whether a crop ends there or extends beyond it: the network sees the nucleus mirrored."""
    labels = labels_of(*["11112..."] * 3)
    beyond = np.zeros((3, 5), np.int32)
    valid = np.concatenate([np.ones(labels.shape, bool), beyond == 1], axis=1)
    maps = target_maps(np.concatenate([labels[:, ::-1], beyond], axis=1), valid)
    np.testing.assert_array_equal(maps[:, :8], target_maps(labels[:, ::-1]))
    assert not maps[:, 8:].any()


@pytest.mark.parametrize(
    ("rows", "touches"),
    [
        (("1122",), True),
        (("11.22",), False),
        (("11...", "..22."), True),  # by a corner
        (("11...", "...22"), False),
        (("1", ".", "2"), False),
        (("1111",), False),
    ],
)
def test_there_is_a_border_only_where_nuclei_touch(rows: tuple[str, ...], touches: bool) -> None:
    labels = labels_of(*rows)
    border = of("border", labels)
    assert border.any() == touches
    assert not border[labels == 0].any()


def test_offsets_point_to_the_centroid() -> None:
    labels = fluorescence_field(3, height=90, width=110, n_nuclei=9)[1]
    maps = target_maps(labels)
    rows, columns = np.indices(labels.shape)
    for label in range(1, labels.max() + 1):
        inside = labels == label
        for channel, coordinate in ((3, rows), (4, columns)):
            target = coordinate[inside] + maps[inside, channel] * OFFSET_SCALE_PX
            np.testing.assert_allclose(target, coordinate[inside].mean(), atol=1e-4)
    assert not maps[labels == 0].any()


@pytest.mark.parametrize("seed", range(3))
def test_each_nucleus_is_as_deep_as_one_and_nothing_is_out_of_range(seed: int) -> None:
    labels = fluorescence_field(seed, height=90, width=110, n_nuclei=14)[1]
    distance = of("distance", labels)
    assert distance.min() == 0
    assert (distance[labels > 0] > 0).all()
    for label in range(1, labels.max() + 1):
        assert distance[labels == label].max() == pytest.approx(1)


def test_no_nucleus_gives_nothing() -> None:
    assert not target_maps(np.zeros((6, 9), np.int32)).any()


def test_a_nucleus_that_fills_the_crop_is_deep_everywhere() -> None:
    """Its edge is not visible: nothing in the crop distinguishes its pixels."""
    labels = np.full((6, 9), 4, np.int32)
    np.testing.assert_array_equal(of("foreground", labels), 1)
    np.testing.assert_array_equal(of("distance", labels), 1)
    assert not of("border", labels).any()


def test_only_which_pixels_are_alike_counts_not_the_numbers() -> None:
    labels = fluorescence_field(5, height=60, width=70, n_nuclei=8)[1]
    renamed = np.array([0, *np.random.default_rng(0).permutation(900)[: labels.max()] + 1], np.int32)[labels]
    np.testing.assert_array_equal(target_maps(renamed), target_maps(labels))


def test_the_maps_hold_what_the_watershed_needs() -> None:
    """A perfect network would find all nuclei, including touching ones."""
    labels = fluorescence_field(8, height=200, width=200, n_nuclei=40)[1]
    maps = target_maps(labels)[..., : len(MAPS)]
    assert maps[..., 2].any()
    found = marker_watershed(
        maps,
        threshold=0.5,
        marker_distance=0.5,
        marker_border=0.5,
        min_marker_area_px=3,
        min_peak_distance=0.9,
        min_area_px=10,
    )
    assert match(labels, found).ap()[0] == 1
    assert match(labels, found).ap().mean() > 0.9
