"""Levels of an OME-TIFF, which are SubIFDs of its pages, as Bio-Formats and QuPath write them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from nuclei_runtime.errors import ImageShapeError
from nuclei_runtime.readers.opening import open_planes
from nuclei_runtime.readers.plane import Selection
from tests.contents import whole

GREY = np.random.default_rng(8).integers(0, 60_000, (2, 3, 128, 160)).astype(np.uint16)
RGB = np.random.default_rng(9).integers(0, 255, (128, 160, 3)).astype(np.uint8)
METADATA = {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5}


def write(path: Path, *levels: np.ndarray, metadata: dict[str, Any], **options: Any) -> Path:
    with tifffile.TiffWriter(path) as writer:
        writer.write(levels[0], subifds=len(levels) - 1, metadata=metadata, **options)
        for level in levels[1:]:
            writer.write(level, subfiletype=1, **options)
    return path


@pytest.mark.parametrize(
    "options", [{"tile": (32, 32)}, {"rowsperstrip": 7}, {"tile": (64, 64), "compression": "zlib"}]
)
def test_each_level_of_each_plane_is_read(tmp_path: Path, options: dict[str, Any]) -> None:
    metadata = METADATA | {"axes": "TCYX", "Channel": {"Name": ["DAPI", "FITC", "Cy5"]}}
    path = write(tmp_path / "a.ome.tif", GREY, GREY[..., ::2, ::2], GREY[..., ::4, ::4], metadata=metadata, **options)
    for level, step in enumerate((1, 2, 4)):
        with open_planes(path, Selection(channel="FITC", level=level)) as planes:
            for time, plane in enumerate(planes):
                expected = GREY[time, 1, ::step, ::step]
                assert plane.pixel_size_um == (0.5 * step, 0.25 * step)
                assert np.array_equal(whole(plane), expected)
                assert np.array_equal(plane.read(slice(3, 20), slice(5, 31)), expected[3:20, 5:31])
    with open_planes(path, Selection(channel=0, mpp=0.7)) as planes:
        assert planes[0].shape == (64, 80)
    with (
        pytest.raises(ImageShapeError, match=r"no level 3; its levels: 0 \(128 x 160 .* 2 \(32 x 40"),
        open_planes(path, Selection(channel=0, level=3)),
    ):
        pass


def test_colours_too(tmp_path: Path) -> None:
    levels = RGB, RGB[::2, ::2], RGB[::4, ::4]
    path = write(tmp_path / "a.ome.tif", *levels, metadata=METADATA, photometric="rgb", tile=(32, 32))
    for level, expected in enumerate(levels):
        with open_planes(path, Selection(level=level)) as (plane,):
            assert np.array_equal(whole(plane), expected)


def test_what_is_no_coarser_copy_is_no_level(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ome.tif", GREY[0], GREY[0], metadata=METADATA | {"axes": "CYX"}, tile=(32, 32))
    with pytest.raises(ImageShapeError, match="no level 1"), open_planes(path, Selection(channel=0, level=1)):
        pass
    with open_planes(path, Selection(channel=0)) as (plane,):
        assert np.array_equal(whole(plane), GREY[0, 0])


def test_damaged_pyramids_are_refused_or_read(
    tmp_path: Path, read_damaged: Callable[[Path, int], list[tuple[str, str]]]
) -> None:
    levels = GREY[0], GREY[0, :, ::2, ::2], GREY[0, :, ::4, ::4]
    path = write(tmp_path / "a.ome.tif", *levels, metadata=METADATA | {"axes": "CYX"}, tile=(32, 32))
    kinds = {kind for kind, _ in read_damaged(path, 150)}
    # Without its XML, the file is a stack of which nobody knows what it is.
    assert {"read"} < kinds <= {"read", "ImageReadError", "ImageShapeError", "ImageValueError", "UndecidedError"}
