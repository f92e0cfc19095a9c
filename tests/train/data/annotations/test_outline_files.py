"""GeoJSON and ROIs as truth: what they draw, and what in them becomes no nucleus."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import roifile
import shapely

from nuclei_runtime.errors import ImageError
from nuclei_train.data.annotations.drawing import NO_OUTLINE, NOT_COUNTED, OUTSIDE, AnnotationFile, Drawing
from nuclei_train.data.annotations.outlines import read_outline_file
from nuclei_train.errors import DatasetError

SIZE = (20, 30)


def read(name: str, content: bytes) -> Drawing:
    return read_outline_file(AnnotationFile(name, content, "images/a.png", lambda: SIZE))


def painted(drawing: Drawing) -> np.ndarray:
    labels = np.zeros(drawing.shape, np.int32)
    drawing.paint(labels, 0)
    return labels


def geojson(*shapes: Any, kind: str = "detection") -> bytes:
    features = [
        {"type": "Feature", "geometry": json.loads(shapely.to_geojson(shape)), "properties": {"objectType": kind}}
        for shape in shapes
    ]
    return json.dumps({"type": "FeatureCollection", "features": features}).encode()


def roi_zip(*rois: roifile.ImagejRoi) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number, roi in enumerate(rois):
            archive.writestr(f"{number:04}.roi", roi.tobytes())
    return buffer.getvalue()


def square_roi(row: int, column: int, size: int, **options: int) -> roifile.ImagejRoi:
    corners = [(column, row), (column + size, row), (column + size, row + size), (column, row + size)]
    return roifile.ImagejRoi.frompoints(corners, **options)


def squares_as_geojson(*squares: tuple[int, int, int]) -> tuple[str, bytes]:
    return "a.geojson", geojson(*(shapely.box(c, r, c + size, r + size) for r, c, size in squares))


def squares_as_rois(*squares: tuple[int, int, int]) -> tuple[str, bytes]:
    return "a_rois.zip", roi_zip(*(square_roi(*square) for square in squares))


@pytest.mark.parametrize("written", [squares_as_geojson, squares_as_rois])
def test_a_square_covers_exactly_its_pixels(written: Callable[..., tuple[str, bytes]]) -> None:
    labels = painted(read(*written((2, 3, 4), (10, 20, 5))))
    expected = np.zeros(SIZE, np.int32)
    expected[2:6, 3:7] = 1  # the smaller one comes first
    expected[10:15, 20:25] = 2
    np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize("written", [squares_as_geojson, squares_as_rois])
def test_of_two_that_overlap_the_smaller_keeps_the_pixels(written: Callable[..., tuple[str, bytes]]) -> None:
    labels = painted(read(*written((2, 2, 10), (4, 4, 3))))
    assert np.bincount(labels.ravel())[1:].tolist() == [9, 91]
    assert (labels[4:7, 4:7] == 1).all()


@pytest.mark.parametrize("written", [squares_as_geojson, squares_as_rois])
def test_what_lies_beyond_the_image_is_cut_off_and_what_lies_outside_is_said(
    written: Callable[..., tuple[str, bytes]],
) -> None:
    drawing = read(*written((16, 26, 8), (18, 40, 5)))
    assert painted(drawing)[16:, 26:].sum() == painted(drawing).sum() == 16
    ((kind, detail),) = [(one.kind, one.detail) for one in drawing.left_out]
    assert kind == OUTSIDE
    assert detail.endswith(": the image is 20 x 30 px")


def test_holes_are_background_and_pieces_are_one_nucleus() -> None:
    ring = shapely.box(2, 2, 10, 10).difference(shapely.box(4, 4, 7, 7))
    pieces = shapely.MultiPolygon([shapely.box(15, 2, 18, 5), shapely.box(20, 2, 23, 5)])
    labels = painted(read("a.geojson", geojson(ring, pieces)))
    assert np.bincount(labels.ravel())[1:].tolist() == [18, 64 - 9]
    assert (labels[4:7, 4:7] == 0).all()


def test_of_a_cell_of_qupath_the_nucleus_counts() -> None:
    (feature,) = json.loads(geojson(shapely.box(1, 1, 15, 15), kind="cell"))["features"]
    feature["nucleusGeometry"] = json.loads(shapely.to_geojson(shapely.box(5, 5, 8, 8)))
    assert painted(read("a.geojson", json.dumps([feature]).encode())).sum() == 9


def test_objects_without_an_area_are_said_to_be_left_out() -> None:
    drawing = read("a.geojson", geojson(shapely.box(1, 1, 4, 4), shapely.Point(5, 5)))
    assert [one.kind for one in drawing.left_out] == [NO_OUTLINE]
    line = square_roi(2, 2, 4)
    line.roitype = roifile.ROI_TYPE.FREELINE
    drawing = read("a_rois.zip", roi_zip(square_roi(10, 10, 4), line))
    assert [one.kind for one in drawing.left_out] == [NO_OUTLINE]
    assert painted(drawing).sum() == 16


def test_the_region_around_detections_is_no_nucleus() -> None:
    found = json.loads(geojson(shapely.box(3, 3, 5, 5), shapely.box(9, 9, 11, 11), shapely.box(15, 9, 17, 11)))
    region = json.loads(geojson(shapely.box(0, 0, 30, 20), kind="annotation"))
    document = {"type": "FeatureCollection", "features": [*region["features"], *found["features"]]}
    drawing = read("a.geojson", json.dumps(document).encode())
    assert painted(drawing).max() == 3
    assert [one.kind for one in drawing.left_out] == [NOT_COUNTED]


@pytest.mark.parametrize("axis", ["t", "z", "position"])
def test_rois_on_several_slices_are_refused(axis: str) -> None:
    rois = [square_roi(2, 2, 4, **{axis: 1}), square_roi(2, 2, 4, **{axis: 2})]
    with pytest.raises(DatasetError, match="its outlines lie on 2 planes of a stack"):
        read("a_rois.zip", roi_zip(*rois))


def test_rois_whose_names_tell_several_slices_are_refused() -> None:
    names = ("0001-0004-0004", "0002-0004-0004", "a")
    rois = [square_roi(2 + 6 * i, 2, 4) for i in range(len(names))]
    for roi, name in zip(rois, names, strict=True):
        roi.name = name
    with pytest.raises(DatasetError, match="its outlines lie on 2 planes of a stack"):
        read("a_rois.zip", roi_zip(*rois))
    assert painted(read("a_rois.zip", roi_zip(*rois[1:]))).max() == 2


@pytest.mark.parametrize("name", ["a.geojson", "a_rois.zip", "a.roi"])
@pytest.mark.parametrize("content", [b"", b"{", b"PK\3\4 cut off", b'{"shapes": []}', b"\0" * 99])
def test_damaged_files_are_refused_by_name(name: str, content: bytes) -> None:
    with pytest.raises(ImageError, match=rf"^{name}: "):
        read(name, content)


def test_truncated_files_are_refused_by_name() -> None:
    for name, content in (squares_as_geojson((2, 3, 4)), squares_as_rois((2, 3, 4), (9, 9, 4))):
        for share in (0.3, 0.6, 0.95):
            with pytest.raises(ImageError, match=rf"^{name}: "):
                read(name, content[: int(share * len(content))])
