"""Outlines of a stack count on the plane that they were drawn on, and where that is not known, it is said."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nuclei_runtime.errors import ImageValueError
from nuclei_runtime.readers.outlines.of_planes import outlines_of_plane
from nuclei_runtime.readers.outlines.opening import read_outlines
from nuclei_runtime.readers.plane import Plane, plane_of

roifile = pytest.importorskip("roifile")

SQUARE = [[2, 1], [6, 1], [6, 4], [2, 4]]


def plane(time: int | None = None, z: int | None = None, scene: int | None = None) -> Plane:
    return replace(plane_of(np.zeros((8, 9), np.uint8)), time=time, z=z, scene=scene)


TIMES, DEPTHS = [plane(time=t) for t in range(3)], [plane(z=z) for z in range(3)]
BOTH = [plane(t, z) for t in range(2) for z in range(3)]


def rois(path: Path, *at: dict[str, int]) -> Path:
    """Write a zip of ROIs at these positions, from 0."""
    with zipfile.ZipFile(path / "a.zip", "w") as archive:
        for number, position in enumerate(at, start=1):
            roi = roifile.ImagejRoi.frompoints(SQUARE, name=str(number), **position)
            archive.writestr(f"{number}.roi", roi.tobytes())
    return path / "a.zip"


def geojson(path: Path, *at: dict[str, int] | None) -> Path:
    """Write objects of QuPath on these planes; it leaves out the first plane."""
    features = []
    for number, where in enumerate(at, start=1):
        geometry: dict[str, Any] = {"type": "Polygon", "coordinates": [[*SQUARE, SQUARE[0]]]}
        geometry |= {} if where is None else {"plane": {"c": -1} | where}
        features.append({"type": "Feature", "geometry": geometry, "properties": {"name": str(number)}})
    (path / "a.geojson").write_text(json.dumps(features))
    return path / "a.geojson"


def found(path: Path, planes: list[Plane]) -> list[list[str]]:
    """Return the names of the outlines of each plane, if the file is for all."""
    outlines = read_outlines(path)
    return [[one.name for one in outlines_of_plane(outlines, plane, planes)[0].outlines] for plane in planes]


def remarks(path: Path, plane: Plane, planes: list[Plane] | None) -> tuple[str, ...]:
    return outlines_of_plane(read_outlines(path), plane, planes)[1]


@pytest.mark.parametrize("planes", [TIMES, DEPTHS], ids=["times", "depths"])
def test_a_place_in_a_stack_is_the_plane_of_its_only_dimension(tmp_path: Path, planes: list[Plane]) -> None:
    path = rois(tmp_path, *({"position": place} for place in (0, 1, 2, 1)))
    assert found(path, planes) == [["1"], ["2", "4"], ["3"]]
    assert [remarks(path, one, planes) for one in planes] == [(), (), ()]


NAMES = ["0001-0002-0003", "00003-00002-00003", "0001-0002-0003-1", "0002-0003", "12"]
"""Of the ROI Manager, in a stack or not, and of a person."""


def named_rois(path: Path) -> Path:
    with zipfile.ZipFile(path / "a.zip", "w") as archive:
        for name in NAMES:
            archive.writestr(f"{name}.roi", roifile.ImagejRoi.frompoints(SQUARE, name=name).tobytes())
    return path / "a.zip"


@pytest.mark.parametrize("planes", [TIMES, DEPTHS], ids=["times", "depths"])
def test_the_place_in_the_name_of_a_roi_is_its_plane(tmp_path: Path, planes: list[Plane]) -> None:
    """All that ImageJ 1.53t stores when a ROI of a stack is added to its ROI Manager."""
    path = named_rois(tmp_path)
    first, second, third, *everywhere = NAMES
    assert found(path, planes) == [[first, third, *everywhere], everywhere, [second, *everywhere]]
    own, _ = outlines_of_plane(read_outlines(path), planes[1])  # the file is for this plane
    assert own.n_outlines == len(NAMES)


def test_a_place_in_a_name_says_nothing_in_a_hyperstack(tmp_path: Path) -> None:
    planes = [replace(plane, in_hyperstack=True) for plane in TIMES]
    with pytest.raises(ImageValueError, match=r"only the name of the outline 0001-0002-0003 tells where .* of its own"):
        found(named_rois(tmp_path), planes)


def test_hyperstacks_and_qupath_tell_times_and_depths_apart(tmp_path: Path) -> None:
    expected = [["1"], [], [], [], ["2"], []]
    assert found(rois(tmp_path, {"c": 0, "z": 0, "t": 0}, {"c": 1, "z": 1, "t": 1}), BOTH) == expected
    assert found(geojson(tmp_path, {"z": 0, "t": 0}, {"z": 1, "t": 1}), BOTH) == expected
    assert found(geojson(tmp_path, None, {"z": 1, "t": 1}), BOTH) == expected


def test_a_place_in_a_stack_of_two_dimensions_is_refused(tmp_path: Path) -> None:
    path = rois(tmp_path, {"position": 4})
    with pytest.raises(ImageValueError, match=r"1 was drawn on position 5 of a stack, .* make the stack a hyperstack"):
        found(path, BOTH)
    with pytest.raises(ImageValueError, match="both times and depths"):
        outlines_of_plane(read_outlines(path), BOTH[0])


@pytest.mark.parametrize("at", [{"position": 3}, {"t": 3}, {"t": 7, "z": 0}], ids=str)
def test_an_outline_on_a_plane_that_the_image_lacks_is_refused(tmp_path: Path, at: dict[str, int]) -> None:
    path = rois(tmp_path, {"t": 0}, at)
    with pytest.raises(
        ImageValueError, match="1 of 2 outlines drawn on planes that the image does not have: the outline 2"
    ):
        found(path, TIMES)


def test_outlines_do_not_say_on_which_scene_they_were_drawn(tmp_path: Path) -> None:
    scenes = [plane(scene=scene, time=time) for scene in range(2) for time in range(2)]
    path = rois(tmp_path, {"t": 0})
    with pytest.raises(ImageValueError, match="on which of the 2 scenes of the image they were drawn; save"):
        found(path, scenes)
    assert found(path, scenes[2:]) == [["1"], []]  # the one that was chosen


def test_outlines_that_count_on_several_planes_are_named(tmp_path: Path) -> None:
    path = rois(tmp_path, {}, {"position": 1})
    assert found(path, TIMES) == [["1"], ["1", "2"], ["1"]]
    assert remarks(path, TIMES[0], TIMES) == ("1 outline drawn on no plane in particular: counted on each",)
    assert found(geojson(tmp_path, None, None), TIMES) == [["1", "2"]] * 3
    assert remarks(tmp_path / "a.geojson", TIMES[1], TIMES) == (
        "2 outlines drawn on no plane in particular: counted on each",
    )


def test_a_projection_has_the_outlines_of_all_depths_and_says_so(tmp_path: Path) -> None:
    path = rois(tmp_path, *({"c": 0, "z": z, "t": 0} for z in range(3)))
    assert found(path, [plane()]) == [["1", "2", "3"]]
    assert remarks(path, plane(), [plane()]) == ("outlines of 3 depths count on this one plane",)
    path = rois(tmp_path, *({"position": place} for place in range(2)))
    assert found(path, [plane()]) == [["1", "2"]]
    assert remarks(path, plane(), [plane()]) == ("outlines of 2 places of a stack count on this one plane",)


def test_the_file_of_one_plane_may_hold_an_export_of_all(tmp_path: Path) -> None:
    path = geojson(tmp_path, None, {"z": 0, "t": 1}, {"z": 0, "t": 2})
    own, notes = outlines_of_plane(read_outlines(path), TIMES[1])
    assert [one.name for one in own.outlines] == ["2"]
    assert notes == ("left out 2 outlines of the file of this plane: drawn on others",)
    own, notes = outlines_of_plane(read_outlines(geojson(tmp_path, None, None)), TIMES[1])
    assert (own.n_outlines, notes) == (2, ())  # drawn on an image of this plane alone
