"""ND2 files of microscopes, as the package nd2 reads them, and damaged ones. Nothing writes ND2 but a microscope."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nd2
import numpy as np
import pytest

from nuclei_runtime.errors import ImageReadError
from nuclei_runtime.readers.opening import open_planes
from nuclei_runtime.readers.plane import Selection
from tests.contents import whole

pytestmark = pytest.mark.vendor_files


@pytest.mark.parametrize(
    ("name", "channels", "um"),
    [
        ("example-multichannel", ("Mono", "DAPI", "FITC BP", "TRITC BP"), 0.3234),
        ("example-pbmc", ("Mono", "DAPI", "FITC BP", "TRITC BP"), 0.6468),
        ("example-cerevisiae", ("DIC", "FITC BP"), 0.1083),
        ("example-zstack", (None,), 0.3234),
        ("example-timelapse", (None,), 0.325),
    ],
)
def test_planes_are_those_of_the_package(
    vendor_files: Path, name: str, channels: tuple[str | None, ...], um: float
) -> None:
    path = vendor_files / "nd2" / f"{name}.nd2"
    with nd2.ND2File(path) as document:
        theirs = document.asarray()
    for index, channel in enumerate(channels):
        with open_planes(path, Selection(channel=channel, z="each")) as planes:
            assert len(planes) == len(theirs) or len(planes) == 1
            for i, plane in enumerate(planes):
                expected = theirs[index] if channel else theirs[i]
                assert plane.pixel_size_um == pytest.approx((um, um), rel=1e-3)
                assert np.array_equal(whole(plane), expected)
                assert np.array_equal(plane.read(slice(5, 40), slice(9, 30)), expected[5:40, 9:30])


def chunk(data: bytes, name: bytes) -> int:
    """Return where a chunk begins."""
    at = data.index(name)
    return data.rindex(b"\xda\xce\xbe\x0a", 0, at)


@pytest.fixture
def zstack(vendor_files: Path) -> bytes:
    return (vendor_files / "nd2" / "example-zstack.nd2").read_bytes()


def test_a_frame_that_is_missing_is_not_black(zstack: bytes) -> None:
    """The package gives zeros for it."""
    at = zstack.rindex(b"ImageDataSeq|3!")  # in the list of chunks at the end
    data = zstack[:at] + b"ImageDataXeq|3!" + zstack[at + 15 :]
    with open_planes(data, Selection(z="each")) as planes:
        assert whole(planes[2]).any()
        with pytest.raises(ImageReadError, match="frame 3 is not in the ND2"):
            whole(planes[3])


def test_a_compressed_frame_is_read_up_to_its_size(zstack: bytes) -> None:
    """The first frame is replaced by one that is deflated, and the attributes say so."""
    with open_planes(zstack, Selection(z="each")) as planes:
        expected = whole(planes[0])
    data = bytearray(zstack)
    start = chunk(data, b"ImageDataSeq|0!") + 24 + 4072
    packed = zlib.compress(expected.tobytes(), 9)
    assert len(packed) <= expected.nbytes
    data[start : start + len(packed)] = packed
    attribute = "eCompression".encode("utf-16-le") + b"\0\0"
    at = data.index(attribute, chunk(data, b"ImageAttributesLV!")) + len(attribute)
    assert struct.unpack_from("<i", data, at) == (2,)
    data[at : at + 4] = bytes(4)
    with open_planes(bytes(data), Selection(z="each")) as planes:
        assert not planes[0].reads_blocks
        assert np.array_equal(whole(planes[0]), expected)
        with pytest.raises(ImageReadError):
            whole(planes[1])


def test_damaged_files_are_refused_or_read(
    vendor_files: Path, tmp_path: Path, read_damaged: Callable[..., Any]
) -> None:
    copy = tmp_path / "a.nd2"
    copy.write_bytes((vendor_files / "nd2" / "example-cerevisiae.nd2").read_bytes())
    assert {kind for kind, _ in read_damaged(copy, 60)} <= {"read", "ImageReadError", "ImageShapeError"}
