"""Outlines: polygons that cover exactly the pixels of their nuclei when filled."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_strategies
from numpy.typing import NDArray
from scipy import ndimage
from shapely import MultiPolygon, Polygon, contains_xy
from shapely.validation import explain_validity
from skimage.draw import polygon2mask

from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.errors import ImageValueError
from nuclei_runtime.steps.outlines import trace_outlines, trace_polygons

ENCLOSED = np.ones((3, 3), int)
"""Neighbours of background pixels: nuclei are 4-connected, so that what lies outside them is 8-connected."""


def filled(outline: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """For each pixel's centre, count the edges to its left: with an odd number, it is inside."""
    inside = np.zeros(shape, bool)
    for (row, column), (next_row, next_column) in pairwise(outline):
        if column == next_column:
            first, last = sorted((round(row + 0.5), round(next_row + 0.5)))
            inside[first:last, round(column + 0.5) :] ^= True
    return inside


def check(labels: NDArray[np.int32], *, have_holes: bool = False) -> None:
    outlines = trace_outlines(labels)
    assert len(outlines) == labels.max()
    for number, outline in enumerate(outlines, 1):
        nucleus = labels == number
        expected = ndimage.binary_fill_holes(nucleus, ENCLOSED)
        assert have_holes or (expected == nucleus).all()
        np.testing.assert_array_equal(filled(outline, labels.shape), expected)
        np.testing.assert_array_equal(outline[0], outline[-1])
        steps = np.diff(outline, axis=0)
        assert (np.count_nonzero(steps, axis=1) == 1).all(), "an edge runs along rows or along columns"
        is_vertical = steps[:, 0] != 0
        assert (is_vertical[1:] != is_vertical[:-1]).all(), "each corner is a turn"
        rows, columns = outline[:-1].T
        # The shoelace formula, positive where the corners go clockwise as the image is seen.
        assert 0.5 * np.sum(np.roll(rows, -1) * columns - rows * np.roll(columns, -1)) == expected.sum()


def drawn(*rows: str) -> NDArray[np.int32]:
    return np.array([[int(letter) for letter in row.replace(".", "0")] for row in rows], np.int32)


DRAWINGS = {
    "one pixel": drawn("1"),
    "one pixel inside": drawn("...", ".1.", "..."),
    "a row": drawn("1111"),
    "a column": drawn("1", "1", "1"),
    "a line one pixel wide": drawn("1....", "111..", "..1..", "..111"),
    "at all borders": drawn("1122", "1122", "3344"),
    "corners that touch": drawn("11..", "11..", "..22", "..22"),
    "its own corners touch": drawn("111.", "1.1.", "11.1", ".111"),
    "a bay that its own corners close": drawn("111", "1.1", "11."),
    "several of them": drawn("11111", "1.1.1", "11.11"),
    "inside another's bay": drawn("1111", "1221", "1..1"),
    "stairs": drawn("11...", ".11..", "..11.", "...11"),
}


@pytest.mark.parametrize("kind", DRAWINGS)
def test_a_drawing_comes_back(kind: str) -> None:
    check(DRAWINGS[kind])


def test_a_hole_is_filled_and_what_lies_in_it_has_an_outline_of_its_own() -> None:
    labels = drawn("11111", "1...1", "1.2.1", "1...1", "11111")
    check(labels, have_holes=True)
    outer, inner = trace_outlines(labels)
    assert len(outer) == len(inner) == 5
    assert filled(outer, labels.shape).all()


def test_coordinates_are_those_of_centroids() -> None:
    (outline,) = trace_outlines(drawn("....", "..11"))
    assert outline.dtype == np.float64
    assert outline.tolist() == [[0.5, 1.5], [0.5, 3.5], [1.5, 3.5], [1.5, 1.5], [0.5, 1.5]]


def test_labels_with_a_gap_are_refused() -> None:
    with pytest.raises(ImageValueError, match="found labels up to 7 without 1, expected all numbers from 1"):
        trace_outlines(np.array([[0, 5], [7, 0]], np.int32))


def test_no_nuclei_have_no_outlines() -> None:
    assert trace_outlines(np.zeros((5, 6), np.int32)) == []


@pytest.mark.parametrize("seed", [1, 2])
def test_nuclei_that_touch_come_back(seed: int) -> None:
    """Nuclei of a synthetic field, and the pixels that another program fills."""
    _, truth = fluorescence_field(seed, height=150, width=170, n_nuclei=40)
    pieces = [ndimage.label(truth == number)[0] for number in range(1, truth.max() + 1)]
    labels = np.zeros(truth.shape, np.int32)
    for number, piece in enumerate(pieces, 1):
        labels[piece == 1] = number
    check(labels, have_holes=True)
    for number, outline in enumerate(trace_outlines(labels), 1):
        nucleus = ndimage.binary_fill_holes(labels == number, ENCLOSED)
        np.testing.assert_array_equal(polygon2mask(labels.shape, outline), nucleus)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(numpy_strategies.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_any_pieces_come_back(mask: NDArray[np.bool_]) -> None:
    check(ndimage.label(mask)[0].astype(np.int32), have_holes=True)


def check_polygons(mask: NDArray[np.bool_]) -> None:
    """Shapely finds the polygons valid, and they cover each pixel of the nucleus and no other."""
    n_pieces = ndimage.label(mask)[1]
    polygons = [Polygon(shell[:, ::-1], [hole[:, ::-1] for hole in holes]) for shell, *holes in trace_polygons(mask)]
    assert len(polygons) == n_pieces
    for polygon in polygons:
        assert polygon.is_valid, explain_validity(polygon)
        assert polygon.exterior.is_ccw, "as numbers, with rows that go up"
        assert not any(hole.is_ccw for hole in polygon.interiors)
    whole = MultiPolygon(polygons)
    assert whole.is_valid, explain_validity(whole)
    assert whole.area == mask.sum()
    rows, columns = np.indices(mask.shape)
    np.testing.assert_array_equal(contains_xy(whole, columns + 0.5, rows + 0.5), mask)


@pytest.mark.parametrize("kind", DRAWINGS)
def test_a_drawing_comes_back_as_polygons(kind: str) -> None:
    labels = DRAWINGS[kind]
    for number in range(1, labels.max() + 1):
        check_polygons(labels == number)


def test_a_hole_is_a_ring_of_its_own() -> None:
    ((shell, hole),) = trace_polygons(drawn("111", "1.1", "111") > 0)
    assert shell.tolist() == [[0, 0], [0, 3], [3, 3], [3, 0], [0, 0]]
    assert hole.tolist() == [[2, 1], [2, 2], [1, 2], [1, 1], [2, 1]]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(numpy_strategies.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_any_mask_comes_back_as_polygons(mask: NDArray[np.bool_]) -> None:
    check_polygons(mask)
