"""Which channels of a file are measured beside the one that is segmented, and what they are called."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from nuclei_runtime.errors import ArgumentError, ImageShapeError
from nuclei_runtime.readers.axes import Stack
from nuclei_runtime.readers.opening import open_planes
from nuclei_runtime.readers.plane import Plane, Selection
from nuclei_runtime.readers.stack_planes import find_planes

STACK = np.random.default_rng(3).integers(0, 4095, (2, 3, 3, 20, 24), dtype=np.uint16)
"""T, C, Z, Y, X."""


def write(folder: Path, names: tuple[str, ...] = (), stack: np.ndarray = STACK, axes: str = "TCZYX") -> Path:
    metadata = {"axes": axes, **({"Channel": {"Name": list(names)}} if names else {})}
    tifffile.imwrite(folder / "a.ome.tif", stack, photometric="minisblack", ome=True, metadata=metadata)
    return folder / "a.ome.tif"


def pixels(plane: Plane) -> dict[str, np.ndarray]:
    whole = slice(0, plane.shape[0]), slice(0, plane.shape[1])
    return {channel.name: channel.read(*whole) for channel in plane.measured}


def names_of(path: Path, *asked: str, channel: int | None = 0) -> list[str]:
    with open_planes(path, Selection(channel=channel, z="max", measure=asked)) as planes:
        assert len({tuple(one.name for one in plane.measured) for plane in planes}) == 1
        return [one.name for one in planes[0].measured]


def test_each_plane_has_the_channels_of_its_own_time_and_depth(tmp_path: Path) -> None:
    path = write(tmp_path, ("DAPI", "GFP", "RFP"))
    with open_planes(path, Selection(channel="DAPI", z="each", measure=("RFP", "1"))) as planes:
        assert len(planes) == 6
        for plane in planes:
            found = pixels(plane)
            assert list(found) == ["RFP", "GFP"]
            np.testing.assert_array_equal(found["RFP"], STACK[plane.time, 2, plane.z])
            np.testing.assert_array_equal(found["GFP"], STACK[plane.time, 1, plane.z])
            part = plane.measured[0].read(slice(3, 9), slice(4, 11))
            np.testing.assert_array_equal(part, STACK[plane.time, 2, plane.z, 3:9, 4:11])
    with open_planes(path, Selection(channel="DAPI", z="max", measure=("all",))) as planes:
        for plane in planes:
            for number, image in enumerate(pixels(plane).values()):
                np.testing.assert_array_equal(image, STACK[plane.time, number].max(axis=0))
    with pytest.raises(Exception, match="the file is closed"):
        planes[0].measured[0].read(slice(0, 1), slice(0, 1))


def test_channels_without_names_are_called_by_their_index_and_equal_names_are_told_apart(tmp_path: Path) -> None:
    assert names_of(write(tmp_path), "all") == ["0", "1", "2"]
    assert names_of(write(tmp_path), "2", "0", "2") == ["2", "0"]
    assert names_of(write(tmp_path, ("GFP", "GFP", "a\nb")), "all") == ["GFP 0", "GFP 1", "a b"]
    assert names_of(write(tmp_path, ("GFP 1", "GFP", "GFP")), "all") == ["GFP 1 0", "GFP 1 1", "GFP 2"]
    assert names_of(write(tmp_path, ("all", "GFP", "b")), "all") == ["all"]


def test_a_colour_image_has_its_colours_as_channels(tmp_path: Path) -> None:
    picture = np.random.default_rng(4).integers(0, 255, (9, 8, 4), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.png")
    with open_planes(tmp_path / "a.png", Selection(measure=("all",))) as (plane,):
        found = pixels(plane)
    assert list(found) == ["red", "green", "blue"]
    for number, image in enumerate(found.values()):
        np.testing.assert_array_equal(image, picture[..., number])
    Image.fromarray(picture[..., 0]).save(tmp_path / "grey.png")
    assert names_of(tmp_path / "grey.png", "all", channel=None) == ["0"]


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ("CY5", r"no channel CY5 .*; its channels: 0 DAPI, 1 GFP, 2 RFP$"),
        ("3", "no channel 3"),
    ],
)
def test_a_channel_that_is_not_there_costs_only_itself_and_says_what_there_is(
    tmp_path: Path, asked: str, reason: str
) -> None:
    path = write(tmp_path, ("DAPI", "GFP", "RFP"))
    with open_planes(path, Selection(channel=0, z="max", measure=(asked, "GFP"))) as planes:
        for plane in planes:
            (gfp, other), whole = plane.measured, (slice(0, 20), slice(0, 24))
            assert [(one.name, one.absent is None) for one in (gfp, other)] == [("GFP", True), (asked, False)]
            np.testing.assert_array_equal(gfp.read(*whole), STACK[plane.time, 1].max(axis=0))
            with pytest.raises(ImageShapeError, match=reason):
                other.read(*whole)


def test_a_name_that_several_channels_have_is_not_guessed(tmp_path: Path) -> None:
    path = write(tmp_path, ("DAPI", "GFP", "GFP"))
    with open_planes(path, Selection(channel=0, z="max", measure=("gfp", "GFP 1"))) as planes:
        (one, other) = planes[0].measured
        assert (one.name, one.absent, other.name) == ("GFP 1", None, "gfp")
        assert "no channel gfp" in str(other.absent)


def test_a_channel_of_which_nothing_was_taken_is_absent() -> None:
    def read(_index: tuple[int, ...], _rows: slice, _columns: slice) -> np.ndarray:
        return np.zeros((20, 24), np.uint16)

    names = ("DAPI", "GFP", "RFP")
    stack = Stack(
        "CYX", (3, 20, 24), np.uint16, names, None, read, True, taken=lambda channel: [(0, 0)][channel == 1 :]
    )
    (plane,) = find_planes(stack, Selection(channel=0, measure=("all",)))
    assert [(one.name, one.absent is None) for one in plane.measured] == [("DAPI", True), ("RFP", True), ("GFP", False)]
    assert "the file has no plane of this channel" in str(plane.measured[-1].absent)


@pytest.mark.parametrize("measure", [(), ("DAPI", "")])
def test_an_empty_name_is_refused(measure: tuple[str, ...]) -> None:
    with pytest.raises(ArgumentError, match="measure must be names or indices"):
        Selection(measure=measure)
