"""Outlines for Fiji, read by read-roi (which shares no code with roifile) and painted again."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from numpy.typing import NDArray
from read_roi import read_roi_zip


def painted(roi: dict[str, Any], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Paint a ROI as ImageJ does: a pixel whose centre lies within an odd number of its rings."""
    rows, columns = np.indices(shape) + 0.5
    rings = roi["paths"] if roi["type"] == "composite" else [list(zip(roi["x"], roi["y"], strict=True))]
    inside = np.zeros(shape, bool)
    for ring in rings:
        inside ^= shapely.contains_xy(shapely.Polygon(ring), columns, rows)
    return inside


def test_the_outlines_are_those_of_the_labels_pixel_by_pixel(
    write_output: Callable[..., Path], odd_labels: NDArray[np.int32]
) -> None:
    rois = read_roi_zip(write_output("roi", odd_labels))
    assert list(rois) == [str(number) for number in range(1, odd_labels.max() + 1)]
    for name, roi in rois.items():
        np.testing.assert_array_equal(painted(roi, odd_labels.shape), odd_labels == int(name))
    kinds = [roi["type"] for roi in rois.values()]
    assert kinds[-4:] == ["composite", "composite", "composite", "traced"]
    assert set(kinds[:-4]) == {"traced"}


@pytest.mark.parametrize("side", [40_000, 70_000])
def test_far_from_the_corner_of_a_large_image_too(write_output: Callable[..., Path], side: int) -> None:
    """ij.io.RoiDecoder: beyond 32,767 numbers of 16 bits have no sign, and beyond 60,535 there are floats."""
    labels = np.zeros((side, 4), np.int32)
    labels[-3:-1, 1:3] = 1
    path = write_output("roi", labels, np.zeros((side, 4), np.uint8))
    if side < 60_535:
        (roi,) = read_roi_zip(path).values()
        x, y = roi["x"], roi["y"]
    else:
        with zipfile.ZipFile(path) as file:
            data = file.read("1.roi")
        (n,), (options,) = struct.unpack_from(">H", data, 16), struct.unpack_from(">H", data, 50)
        assert options & 128  # the coordinates are floats, and not relative to the bounding box
        x, y = struct.unpack_from(f">{n}f", data, 64 + 4 * n), struct.unpack_from(f">{n}f", data, 64 + 8 * n)
    assert sorted(set(y)) == [side - 3, side - 1]
    assert sorted(set(x)) == [1, 3]


def test_one_nucleus_is_a_zip_and_the_bytes_know_no_clock(write_output: Callable[..., Path]) -> None:
    labels = np.zeros((9, 9), np.int32)
    labels[2:5, 3:7] = 1
    first, second = (write_output("roi", labels, time=3, z=0).read_bytes() for _ in range(2))
    assert first == second
    path = write_output("roi", labels, time=3, z=0)
    with zipfile.ZipFile(path) as file:
        assert [member.filename for member in file.infolist()] == ["1.roi"]
    assert read_roi_zip(path)["1"]["position"] == {"channel": 0, "slice": 1, "frame": 4}


@pytest.mark.parametrize(
    ("of_plane", "place", "channel_z_time"),
    [
        ({}, 0, (0, 0, 0)),
        ({"time": 3}, 4, (0, 0, 0)),
        ({"z": 0}, 1, (0, 0, 0)),
        ({"time": 3, "in_hyperstack": True}, 0, (0, 0, 4)),
        ({"z": 2, "in_hyperstack": True}, 0, (0, 3, 0)),
    ],
    ids=str,
)
def test_a_roi_lies_on_its_plane_alone(
    write_output: Callable[..., Path], of_plane: dict[str, Any], place: int, channel_z_time: tuple[int, ...]
) -> None:
    """Tried in ImageJ 1.53t: of a stack that is no hyperstack, a ROI with a time or Z is shown on every plane."""
    labels = np.zeros((9, 9), np.int32)
    labels[2:5, 3:7] = 1
    with zipfile.ZipFile(write_output("roi", labels, **of_plane)) as file:
        data = file.read("1.roi")
    (header2,) = struct.unpack_from(">i", data, 60)  # ij.io.RoiDecoder
    assert struct.unpack_from(">i", data, 56) == (place,)
    assert struct.unpack_from(">iii", data, header2 + 4) == channel_z_time
