"""Packed outlines, drawn again and compared with the labels pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.report.outlines import LEFT, RIGHT, TURNS_A_BYTE, Outlines, trace_turns
from nuclei_runtime.steps.outlines import trace_outlines

STEPS = ((0, 1), (1, 0), (0, -1), (-1, 0))


def corners(outlines: Outlines) -> list[NDArray[np.float64]]:
    """Follow the turns, as the page does, and return the corners as `trace_outlines` does."""
    turns, found = iter(outlines.turns), []
    for row, column in zip(outlines.rows, outlines.columns, strict=True):
        at, heading, polygon = (int(row), int(column)), 0, [(int(row), int(column))]
        while True:
            at = (at[0] + STEPS[heading][0], at[1] + STEPS[heading][1])
            turn = next(turns)
            heading = (heading + {RIGHT: 1, LEFT: 3}.get(turn, 0)) % 4
            if turn:
                polygon.append(at)
            if at == polygon[0] and heading == 0:
                break
        found.append(np.array(polygon) - 0.5)
    assert next(turns, None) is None
    return found


@pytest.mark.parametrize("seed", range(3))
def test_outlines_are_those_that_the_python_api_gives(seed: int) -> None:
    _, labels = fluorescence_field(seed, height=160, width=200, n_nuclei=25)
    found = corners(trace_turns(labels))
    expected = trace_outlines(labels)
    assert len(found) == len(expected) > 10
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def test_numbers_may_be_missing_and_pixels_touch_at_corners_and_edges() -> None:
    labels = np.zeros((4, 5), np.int32)
    labels[0, :2] = labels[1, 0] = 3
    labels[1:3, 2:4] = 7
    labels[3, 4] = 70_000
    outlines = trace_turns(labels)
    assert outlines.labels.tolist() == [3, 7, 70_000]
    areas = [abs(np.sum(p[:-1, 0] * p[1:, 1] - p[1:, 0] * p[:-1, 1])) / 2 for p in corners(outlines)]
    assert areas == [3, 4, 1]


def test_each_piece_of_a_nucleus_is_outlined() -> None:
    labels = np.zeros((6, 9), np.int32)
    labels[0, 7:] = labels[4:, :3] = 2
    labels[1:3, 1:3] = labels[3, 3] = 1  # they touch at a corner
    outlines = trace_turns(labels)
    assert outlines.labels.tolist() == [1, 1, 2, 2]
    boxes = [[*corner.min(axis=0), *corner.max(axis=0)] for corner in corners(outlines)]
    assert boxes == [[0.5, 0.5, 2.5, 2.5], [2.5, 2.5, 3.5, 3.5], [-0.5, 6.5, 0.5, 8.5], [3.5, -0.5, 5.5, 2.5]]


def test_an_empty_image_has_no_outlines() -> None:
    assert trace_turns(np.zeros((3, 3), np.int32)).to_bytes() == b""


def test_the_bytes_hold_the_numbers_and_the_turns() -> None:
    labels = np.zeros((300, 300), np.int32)
    labels[5:7, 280:285], labels[200:290, 3:90] = 1, 2
    outlines = trace_turns(labels)
    content = outlines.to_bytes()
    numbers = np.frombuffer(content[: 12 * 2], np.uint8).reshape(4, -1).T.copy().view("<i4")[:, 0]
    assert numbers.reshape(3, 2).cumsum(axis=1).tolist() == [[1, 2], [5, 200], [280, 3]]
    packed = np.frombuffer(content[12 * 2 :], np.uint8)
    turns = (packed[:, np.newaxis] // 3 ** np.arange(TURNS_A_BYTE) % 3).ravel()
    assert np.array_equal(turns[: len(outlines.turns)], outlines.turns)
    assert not turns[len(outlines.turns) :].any()
