"""Selections, and the planes of files that contain one image."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from nuclei_runtime.errors import ArgumentError, ImageError, ImageReadError, ImageShapeError
from nuclei_runtime.readers.opening import open_planes, read_image
from nuclei_runtime.readers.plane import Selection, plane_of, series_stem

GREY = np.random.default_rng(22).integers(0, 255, (31, 23)).astype(np.uint8)


@pytest.mark.parametrize("axes", ["", "YYX", "XY", "QYX", "tyx", "ZCT", "YSX", "YZX", "YX "])
def test_axes_that_no_file_can_have_are_refused(axes: str) -> None:
    with pytest.raises(ArgumentError, match="must be one letter per dimension"):
        Selection(axes=axes)


@pytest.mark.parametrize("axes", ["YX", "TYX", "CZYX", "TCZYX", "ZTCYX", "TYXS", "YXC", "YXS"])
def test_axes_that_a_file_can_have_are_taken(axes: str) -> None:
    assert Selection(axes=axes).axes == axes


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif"])
def test_the_form_is_known_before_anything_is_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    Image.fromarray(GREY).save(path)
    with open_planes(path, Selection(z="max")) as (plane,):
        assert (plane.shape, plane.dtype, plane.suffix) == ((31, 23), np.uint8, "")
        assert plane.reads_blocks == name.endswith("tif")
        assert np.array_equal(plane.read(slice(4, 30), slice(1, 9)), GREY[4:30, 1:9])


def test_a_header_is_believed_only_until_the_pixels_are_read(tmp_path: Path) -> None:
    path = tmp_path / "cut.jpg"
    Image.fromarray(np.tile(GREY, (9, 9))).save(path)
    path.write_bytes(path.read_bytes()[:-4000])
    with open_planes(path, Selection()) as (plane,):
        assert plane.shape == (279, 207)
        with pytest.raises(ImageReadError, match="truncated"):
            plane.read(slice(0, 9), slice(0, 9))


def test_a_plane_of_a_closed_file_says_so_and_not_that_it_is_damaged(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "a.tif")
    with open_planes(tmp_path / "a.tif", Selection()) as (plane,):
        pass
    with pytest.raises(ImageReadError, match=r"^the file is closed; read its planes inside the with statement"):
        plane.read(slice(0, 9), slice(0, 9))


def test_an_array_in_memory_is_a_plane() -> None:
    plane = plane_of(GREY)
    assert plane.shape == GREY.shape
    assert plane.reads_blocks
    assert np.array_equal(plane.read(slice(2, 5), slice(3, 4)), GREY[2:5, 3:4])


@pytest.mark.parametrize("frame", [None, "frame.png", np.ma.array(GREY), np.zeros((9, 9, 5)), np.zeros((9, 9), "U3")])
def test_what_is_no_image_is_no_plane(frame: Any) -> None:
    with pytest.raises(ImageError, match=r"found .*, expected "):
        plane_of(frame)


CHANNELS = np.stack([GREY, GREY // 2, GREY // 3, GREY // 4, GREY // 5])


@pytest.mark.parametrize(
    ("image", "options", "channel", "together"),
    [
        (GREY, {}, None, 1),
        (CHANNELS, {"photometric": "minisblack", "metadata": {"axes": "CYX"}}, 2, 1),
        (CHANNELS, {"photometric": "minisblack", "planarconfig": "separate"}, 2, 1),
        (np.moveaxis(CHANNELS, 0, -1), {"photometric": "minisblack", "planarconfig": "contig"}, 2, 5),
        (np.moveaxis(CHANNELS[:3], 0, -1), {"photometric": "rgb"}, None, 1),
        (np.moveaxis(CHANNELS[:3], 0, -1), {"photometric": "rgb"}, "blue", 3),
    ],
)
def test_a_plane_knows_how_many_channels_are_read_for_one(
    image: np.ndarray, options: dict[str, Any], channel: str | int | None, together: int, tmp_path: Path
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", image, **options)
    with open_planes(tmp_path / "a.tif", Selection(channel=channel)) as (plane,):
        assert plane.channels_together == together
        expected = image if channel is None else CHANNELS[2]
        assert np.array_equal(plane.read(slice(0, 31), slice(0, 23)), expected)


def test_a_file_is_closed_after_its_planes(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, GREY)
    with open_planes(path, Selection()) as (plane,):
        pass
    with pytest.raises(ImageReadError, match="closed"):
        plane.read(slice(0, 3), slice(0, 3))
    path.unlink()


def test_planes_may_be_read_from_several_threads(tmp_path: Path) -> None:
    frames = np.random.default_rng(3).integers(0, 255, (4, 64, 64)).astype(np.uint8)
    options = {"photometric": "minisblack", "metadata": {"axes": "TYX"}}
    tifffile.imwrite(tmp_path / "a.tif", frames, tile=(16, 16), compression="zlib", **options)
    with open_planes(tmp_path / "a.tif", Selection()) as planes, ThreadPoolExecutor(8) as pool:
        regions = [(t, slice(y, y + 9), slice(0, 64)) for y in range(50) for t in range(4)]
        found = pool.map(lambda region: planes[region[0]].read(*region[1:]), regions)
        for region, image in zip(regions, found, strict=True):
            assert np.array_equal(image, frames[region])


def test_an_error_of_the_one_who_reads_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, GREY)
    with pytest.raises(KeyError, match="mine"), open_planes(path, Selection()):
        raise KeyError("mine")


def test_a_time_series_is_not_one_image(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.stack([GREY, GREY]), photometric="minisblack", metadata={"axes": "TYX"})
    with pytest.raises(ImageShapeError, match="holds 2 images; save the one"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize(("time", "z"), [(0, None), (None, 2), (3, 11), (1234, 5)])
def test_the_stem_of_a_plane_tells_the_stem_of_its_series(time: int | None, z: int | None) -> None:
    plane = replace(plane_of(GREY), time=time, z=z)
    assert series_stem(f"well_t1{plane.suffix}") == "well_t1"
    assert series_stem("well_t1") is None
