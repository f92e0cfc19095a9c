"""DV files, written by the package mrc, and damaged ones."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import mrc
import numpy as np
import pytest

from nuclei_runtime.errors import ImageReadError, ImageShapeError
from nuclei_runtime.readers.opening import open_planes, read_image
from nuclei_runtime.readers.plane import Selection
from tests.contents import whole

STACK = np.random.default_rng(4).integers(0, 4000, (2, 3, 4, 30, 40)).astype(np.uint16)  # TCZYX
SEQUENCES = ("CTZ", "TZC", "TCZ")
"""Orders of the planes, the slowest first, by their number in the header (IVE: ImgSequence)."""
_TIMES, _SEQUENCE, _CHANNELS, _WAVES = 180, 182, 196, 198


def write(path: Path, sequence: int = 2, **changes: int) -> Path:
    """Write the stack in one of the orders; `changes` replaces numbers of the header, by names such as ``at_8``."""
    order = [("TCZ").index(axis) for axis in SEQUENCES[sequence]]
    planes = STACK.transpose(*order, 3, 4).reshape(-1, *STACK.shape[3:])
    mrc.imwrite(str(path), planes, resolution=(0.25, 0.5, 1.0))
    data = bytearray(path.read_bytes())
    waves = {_WAVES + 2 * i: wave for i, wave in enumerate((457, 528, 617))}
    for at, value in ({_TIMES: 2, _SEQUENCE: sequence, _CHANNELS: 3} | waves).items():
        struct.pack_into("<h", data, at, value)
    for name, value in changes.items():
        struct.pack_into("<h", data, int(name.removeprefix("at_")), value)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("sequence", [0, 1, 2])
def test_each_plane_is_read_in_every_order(tmp_path: Path, sequence: int) -> None:
    path = write(tmp_path / "a.dv", sequence)
    for channel in (0, 1, 2):
        with open_planes(path, Selection(channel=("457", "528", "617")[channel], z="each")) as planes:
            assert [(plane.time, plane.z) for plane in planes] == [(t, z) for t in (0, 1) for z in range(4)]
            for plane in planes:
                expected = STACK[plane.time, channel, plane.z]
                assert plane.pixel_size_um == pytest.approx((0.5, 0.25))
                assert np.array_equal(whole(plane), expected)
                assert np.array_equal(plane.read(slice(3, 20), slice(7, 31)), expected[3:20, 7:31])


def test_the_arrays_of_mrc_are_the_same(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dv")
    with mrc.DVFile(path) as document, open_planes(path, Selection(channel=1, z="each")) as planes:
        assert document.axes == "TCZYX"
        assert np.array_equal(whole(planes[5]), document.data[1, 1, 1])


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"at_96": 0}, ImageReadError, "lacks the header"),
        ({"at_8": 25}, ImageReadError, "holds 25 planes, but claims"),
        ({"at_180": 5}, ImageReadError, "holds 24 planes, but claims"),
        ({"at_12": 99}, ImageReadError, "does not fit its contents"),
        ({"at_12": 7}, ImageReadError, "does not fit its contents"),
        ({"at_160": 20}, ImageShapeError, "several positions"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(
    tmp_path: Path, changes: dict[str, int], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        read_image(write(tmp_path / "a.dv", **changes))


def test_a_file_that_is_cut_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dv")
    for n in (0, 50, 1000, 1024, path.stat().st_size - 1):
        (tmp_path / "cut.dv").write_bytes(path.read_bytes()[:n])
        with pytest.raises(ImageReadError):
            read_image(tmp_path / "cut.dv")


def test_damaged_files_are_refused_or_read(
    tmp_path: Path, read_damaged: Callable[[Path, int], list[tuple[str, str]]]
) -> None:
    found = read_damaged(write(tmp_path / "a.dv"), 100)
    assert {kind for kind, _ in found} <= {"read", "ImageReadError", "ImageShapeError", "ImageValueError"}
