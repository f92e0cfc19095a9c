"""Stacks that state the meaning of their dimensions in every possible way, and stacks that do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from nuclei_runtime.errors import ImageShapeError, ImageValueError
from nuclei_runtime.readers.opening import open_planes
from nuclei_runtime.readers.plane import Selection
from tests.contents import whole

RNG = np.random.default_rng(21)
HYPERSTACK = RNG.integers(0, 60_000, (3, 2, 4, 21, 17)).astype(np.uint16)
"""T, C, Z, Y, X."""
NAMED = {"axes": "TCZYX", "Channel": {"Name": ["DAPI", "GFP"]}}


def write(path: Path, image: np.ndarray, **options: Any) -> Path:
    options.setdefault("photometric", "minisblack")
    tifffile.imwrite(path, image, **options)
    return path


@pytest.fixture
def ome(tmp_path: Path) -> Path:
    return write(tmp_path / "hyperstack.ome.tif", HYPERSTACK, ome=True, metadata=NAMED)


@pytest.fixture
def imagej(tmp_path: Path) -> Path:
    return write(tmp_path / "hyperstack.tif", np.swapaxes(HYPERSTACK, 1, 2), imagej=True, metadata={"axes": "TZCYX"})


@pytest.fixture
def unnamed(tmp_path: Path) -> Path:
    return write(tmp_path / "stack.tif", HYPERSTACK[:, 0, 0], metadata=None)


@pytest.mark.parametrize("fixture", ["ome", "imagej"])
def test_planes_come_in_the_order_of_time_then_depth(fixture: str, request: pytest.FixtureRequest) -> None:
    with open_planes(request.getfixturevalue(fixture), Selection(channel=1, z="each")) as planes:
        assert [plane.suffix for plane in planes][:5] == [
            "_t000_z000",
            "_t000_z001",
            "_t000_z002",
            "_t000_z003",
            "_t001_z000",
        ]
        assert [(plane.time, plane.z) for plane in planes] == [(t, z) for t in range(3) for z in range(4)]
        for plane in planes:
            assert (plane.shape, plane.dtype) == ((21, 17), np.uint16)
            assert np.array_equal(whole(plane), HYPERSTACK[plane.time, 1, plane.z])


@pytest.mark.parametrize("fixture", ["ome", "imagej"])
def test_a_projection_is_the_maximum_over_depth(fixture: str, request: pytest.FixtureRequest) -> None:
    with open_planes(request.getfixturevalue(fixture), Selection(channel="0", z="max")) as planes:
        assert [plane.suffix for plane in planes] == ["_t000", "_t001", "_t002"]
        for plane in planes:
            part = plane.read(slice(3, 9), slice(2, 17))
            assert np.array_equal(part, HYPERSTACK[plane.time, 0].max(0)[3:9, 2:17])


@pytest.mark.parametrize("channel", ["GFP", "gfp", "1", 1])
def test_a_channel_is_called_by_name_or_by_index(ome: Path, channel: str | int) -> None:
    with open_planes(ome, Selection(channel=channel, z="each")) as planes:
        assert np.array_equal(whole(planes[0]), HYPERSTACK[0, 1, 0])


def test_a_name_that_is_a_number_goes_before_the_index(tmp_path: Path) -> None:
    lasers = {"axes": "CYX", "Channel": {"Name": ["1", "405"]}}
    path = write(tmp_path / "lasers.ome.tif", HYPERSTACK[0, :, 0], ome=True, metadata=lasers)
    for channel, index in (("1", 0), ("405", 1), ("0", 0), (1, 1)):
        with open_planes(path, Selection(channel=channel)) as (plane,):
            assert np.array_equal(whole(plane), HYPERSTACK[0, index, 0])


def test_the_labels_of_imagej_name_channels(tmp_path: Path) -> None:
    metadata = {"axes": "CYX", "Labels": ["nuclei", "membrane"]}
    path = write(tmp_path / "named.tif", HYPERSTACK[0, :, 0], imagej=True, metadata=metadata)
    with open_planes(path, Selection(channel="membrane")) as (plane,):
        assert np.array_equal(whole(plane), HYPERSTACK[0, 1, 0])


def test_labels_that_only_count_the_channels_are_no_names(tmp_path: Path) -> None:
    """They would become long names of columns, with the name of the file in them."""
    metadata = {"axes": "CYX", "Labels": ["c:1/2 - field.czi", "c:2/2 - field.czi"]}
    path = write(tmp_path / "counted.tif", HYPERSTACK[0, :, 0], imagej=True, metadata=metadata)
    with open_planes(path, Selection(channel="1")) as (plane,):
        assert plane.channel == "1"
    with pytest.raises(ImageShapeError, match=r"choose one with --channel: 0 to 1$"), open_planes(path, Selection()):
        pass


def test_a_colour_of_rgb_is_a_channel(tmp_path: Path) -> None:
    image = RNG.integers(0, 255, (9, 8, 3)).astype(np.uint8)
    path = write(tmp_path / "rgb.tif", image, photometric="rgb")
    with open_planes(path, Selection(channel="blue")) as (plane,):
        assert plane.shape == (9, 8)
        assert np.array_equal(whole(plane), image[..., 2])


@pytest.mark.parametrize(
    ("axes", "planes"), [("TYX", ["_t000", "_t001", "_t002"]), ("ZYX", ["_z000", "_z001", "_z002"]), ("CYX", [""])]
)
def test_axes_say_what_the_file_does_not(unnamed: Path, axes: str, planes: list[str]) -> None:
    with open_planes(unnamed, Selection(axes=axes, channel=2 if "C" in axes else None, z="each")) as found:
        assert [plane.suffix for plane in found] == planes
        assert np.array_equal(whole(found[-1]), HYPERSTACK[2, 0, 0])


def test_axes_of_several_unknown_dimensions_are_taken_in_their_order(tmp_path: Path) -> None:
    path = write(tmp_path / "unnamed.tif", HYPERSTACK)  # tifffile records the shape but no axes
    with open_planes(path, Selection(axes="TCZYX", channel=0, z="each")) as planes:
        assert np.array_equal(whole(planes[6]), HYPERSTACK[1, 0, 2])


def test_axes_that_say_the_same_as_the_file_do_no_harm(ome: Path, tmp_path: Path) -> None:
    with open_planes(ome, Selection(axes="TCZYX", channel=0, z="each")) as planes:
        assert len(planes) == 12
    single = write(tmp_path / "single.ome.tif", HYPERSTACK[:1, :1, :1], ome=True, metadata={"axes": "TCZYX"})
    for axes in ("YX", "TCZYX"):
        with open_planes(single, Selection(axes=axes)) as (plane,):
            assert plane.suffix == ""


def test_samples_that_are_not_a_colour_are_channels(tmp_path: Path) -> None:
    image = np.moveaxis(HYPERSTACK[:, 0, 0], 0, -1)
    for planar in ("contig", "separate"):
        stored = image if planar == "contig" else np.moveaxis(image, -1, 0)
        path = write(tmp_path / f"{planar}.tif", stored, planarconfig=planar)
        with open_planes(path, Selection(channel=2)) as (plane,):
            assert np.array_equal(whole(plane), image[..., 2])


def test_a_file_of_one_channel_names_it_and_no_range(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "grey.tif", np.zeros((21, 17), np.uint8))
    with pytest.raises(ImageShapeError, match=r"no channel 1 .*; its channels: 0$"):
        open_planes(tmp_path / "grey.tif", Selection(channel=1)).__enter__()


@pytest.mark.parametrize(
    ("fixture", "selection", "reason"),
    [
        ("unnamed", Selection(), r"shape \(3, 21, 17\) with axes \?YX.*--axes TYX, ZYX or CYX"),
        ("unnamed", Selection(axes="TZYX"), r"--axes TZYX names 4 dimensions, the file holds 3 \(shape \(3, 21, 17\)"),
        ("unnamed", Selection(axes="YXS"), "contradicts the file"),
        ("unnamed", Selection(axes="CYX"), "3 channels.*--channel: 0 to 2"),
        ("unnamed", Selection(axes="ZYX"), "Z stack of 3 planes.*--z each .*--z max"),
        ("ome", Selection(z="each"), r"2 channels \(shape \(3, 2, 4, 21, 17\) with axes TCZYX\).*: 0 DAPI, 1 GFP"),
        ("ome", Selection(channel=0), "Z stack of 4 planes"),
        ("ome", Selection(channel="Cy5", z="max"), "no channel Cy5.*0 DAPI, 1 GFP"),
        ("ome", Selection(channel=2, z="max"), "no channel 2"),
        ("ome", Selection(axes="TZCYX", channel=0, z="max"), "TZCYX contradicts the file.*TCZYX"),
        ("imagej", Selection(z="each"), "2 channels"),
    ],
)
def test_what_could_mean_two_things_is_refused_with_the_choices(
    fixture: str, selection: Selection, reason: str, request: pytest.FixtureRequest
) -> None:
    with pytest.raises(ImageShapeError, match=reason), open_planes(request.getfixturevalue(fixture), selection):
        pass


def test_an_image_of_one_channel_has_only_channel_0(tmp_path: Path) -> None:
    path = write(tmp_path / "grey.tif", HYPERSTACK[0, 0, 0])
    with open_planes(path, Selection(channel=0)) as (plane,):
        assert plane.shape == (21, 17)
    with pytest.raises(ImageShapeError, match="no channel 1"), open_planes(path, Selection(channel=1)):
        pass


def test_a_plane_that_is_not_finite_fails_alone(tmp_path: Path) -> None:
    frames = np.ones((2, 9, 8), np.float32)
    frames[1, 4, 4] = np.nan
    path = write(tmp_path / "frames.ome.tif", frames, ome=True, metadata={"axes": "TYX"})
    with open_planes(path, Selection()) as (good, bad):
        assert whole(good).sum() == 72
        assert bad.read(slice(0, 4), slice(0, 8)).sum() == 32
        with pytest.raises(ImageValueError, match="1 of 72 values are NaN"):
            whole(bad)
