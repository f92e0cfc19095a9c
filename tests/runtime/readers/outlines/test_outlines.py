"""Outlines from QuPath and ImageJ become the label images that they were traced from, pixel by pixel."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from nuclei_runtime.errors import ImageReadError, ImageValueError
from nuclei_runtime.readers.outlines.drawing import Outline, Outlines
from nuclei_runtime.readers.outlines.opening import is_outline_file, read_outlines
from nuclei_runtime.steps.outlines import trace_outlines

roifile = pytest.importorskip("roifile")

SQUARE = [[2, 1], [6, 1], [6, 4], [2, 4], [2, 1]]
"""(x, y) of columns 2 to 5 in rows 1 to 3."""


def feature(rings: list[list[list[float]]], **properties: object) -> dict[str, object]:
    return {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": rings}, "properties": properties}


def write_geojson(path: Path, *features: dict[str, object], bare: bool = False) -> Path:
    document = list(features) if bare else {"type": "FeatureCollection", "features": list(features)}
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def write_rois(path: Path, *rois: object) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for index, roi in enumerate(rois):
            archive.writestr(f"{index}.roi", roi.tobytes())  # type: ignore[attr-defined]
    return path


def square_labels(number: int = 1) -> np.ndarray:
    labels = np.zeros((8, 9), np.int32)
    labels[1:4, 2:6] = number
    return labels


@pytest.mark.parametrize("bare", [False, True], ids=["collection", "list"])
def test_a_polygon_of_qupath_covers_its_pixels(tmp_path: Path, bare: bool) -> None:
    path = write_geojson(tmp_path / "a.geojson", feature([SQUARE], objectType="annotation"), bare=bare)
    found = read_outlines(path)
    np.testing.assert_array_equal(found.labels((8, 9)), square_labels())
    assert found.labels((8, 9)).dtype == np.int32


def test_holes_and_pieces_belong_to_one_nucleus(tmp_path: Path) -> None:
    hole = [[3, 2], [5, 2], [5, 3], [3, 3], [3, 2]]
    piece = [[7, 6], [9, 6], [9, 8], [7, 8], [7, 6]]
    geometry = {"type": "MultiPolygon", "coordinates": [[SQUARE, hole], [piece]]}
    path = write_geojson(tmp_path / "a.geojson", {"type": "Feature", "geometry": geometry, "properties": {"name": "7"}})
    expected = square_labels(7)
    expected[2, 3:5] = 0
    expected[6:8, 7:9] = 7
    np.testing.assert_array_equal(read_outlines(path).labels((8, 9)), expected)


def test_a_pixel_belongs_to_the_outline_that_holds_its_centre() -> None:
    # Drawn by hand, between the corners of pixels: of the neighbours that share an edge, one has each pixel.
    left = Outline((np.array([[0.2, 0.2], [0.2, 2.5], [3.7, 2.5], [3.7, 0.2]]),))
    right = Outline((np.array([[0.2, 2.5], [0.2, 4.9], [3.7, 4.9], [3.7, 2.5]]),))
    labels = Outlines((left, right)).labels((4, 5))
    np.testing.assert_array_equal(labels, np.tile([1, 1, 2, 2, 2], (4, 1)))


def test_slanted_edges_leave_no_pixel_to_two_outlines() -> None:
    corners = np.array([[0.0, 0.0], [20.0, 0.0], [20.0, 20.0], [0.0, 20.0]])
    rows, columns = np.mgrid[:20, :20]
    whole = slice(0, 20), slice(0, 20)
    np.testing.assert_array_equal(Outline((corners[[0, 1, 2]],)).mask(*whole), columns < rows)
    np.testing.assert_array_equal(Outline((corners[[0, 2, 3]],)).mask(*whole), columns >= rows)


def test_outlines_that_were_traced_give_their_label_image(tmp_path: Path) -> None:
    noise = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=(90, 70)), 1.2)
    labels, n_nuclei = ndimage.label(ndimage.binary_fill_holes(noise > 0.02))
    traced = [(ring[:, ::-1] + 0.5).tolist() for ring in trace_outlines(labels)]
    assert n_nuclei > 20
    path = write_geojson(tmp_path / "a.geojson", *(feature([ring], name=str(n)) for n, ring in enumerate(traced, 1)))
    np.testing.assert_array_equal(read_outlines(path).labels((90, 70)), labels)
    rois = [roifile.ImagejRoi.frompoints(np.array(ring[:-1], int), name=str(n)) for n, ring in enumerate(traced, 1)]
    np.testing.assert_array_equal(read_outlines(write_rois(tmp_path / "a.zip", *rois)).labels((90, 70)), labels)


def test_windows_are_parts_of_the_whole() -> None:
    angles = np.linspace(0, 2 * np.pi, 50)
    blobs = tuple(
        Outline((np.stack([row + 9 * np.sin(angles), column + 6 * np.cos(angles)], axis=1),))
        for row in range(5, 60, 13)
        for column in range(5, 60, 10)
    )
    outlines = Outlines(blobs)
    whole = outlines.labels((64, 64))
    assert len(np.unique(whole)) == len(blobs) + 1
    for rows, columns in ((slice(3, 20), slice(40, 64)), (slice(30, 31), slice(0, 64)), (slice(0, 64), slice(17, 18))):
        np.testing.assert_array_equal(outlines.read(rows, columns), whole[rows, columns])


def test_of_overlapping_outlines_the_smaller_has_the_pixel(tmp_path: Path) -> None:
    inner = [[3, 2], [4, 2], [4, 3], [3, 3], [3, 2]]
    path = write_geojson(tmp_path / "a.geojson", feature([inner], name="1"), feature([SQUARE], name="2"))
    expected = square_labels(2)
    expected[2, 3] = 1
    np.testing.assert_array_equal(read_outlines(path).labels((8, 9)), expected)


def test_numbers_are_kept_and_new_outlines_get_new_ones(tmp_path: Path) -> None:
    squares = [[[[x, 0], [x + 1, 0], [x + 1, 1], [x, 1]]] for x in range(5)]
    names = ["12", None, "4", "4", "nucleus"]
    features = [
        feature(rings, **({} if name is None else {"name": name})) for rings, name in zip(squares, names, strict=True)
    ]
    found = read_outlines(write_geojson(tmp_path / "a.geojson", *features))
    assert found.labels((1, 5)).tolist() == [[12, 13, 4, 14, 15]]


def test_a_name_that_is_a_date_is_no_number_of_a_nucleus() -> None:
    """Counting takes memory for each number, and the report shows numbers as 32-bit floats."""
    square = (np.array(SQUARE),)
    found = Outlines(tuple(Outline(square, name) for name in ("20261128", "16777211", "16777215", "999999999")))
    assert found.numbers == (16_777_212, 16_777_211, 16_777_213, 16_777_214)


def test_what_is_no_nucleus_is_left_out_and_named(tmp_path: Path) -> None:
    around = [[0, 0], [90, 0], [90, 80], [0, 80]]
    nuclei = [[[[x, 2], [x + 4, 2], [x + 4, 7], [x, 7]]] for x in (5, 20, 35)]
    point = {"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 2]}, "properties": {}}
    path = write_geojson(
        tmp_path / "a.geojson",
        feature([around], objectType="annotation"),
        *(feature(rings, objectType="detection") for rings in nuclei),
        feature(nuclei[0], objectType="annotation", classification={"name": "Ignore*"}),
        feature([around], objectType="tile"),
        point,
    )
    found = read_outlines(path)
    assert found.n_outlines == 3
    assert found.left_out == (
        "left out 1 object: class Ignore*",
        "left out 1 object: tiles of QuPath",
        "left out 1 object: Point geometry, which has no area",
        "left out 1 object: annotations around others",
    )


def test_a_large_nucleus_that_was_drawn_by_hand_is_no_region(tmp_path: Path) -> None:
    large = [[0, 0], [40, 0], [40, 40], [0, 40]]
    small = [[[[x, 50], [x + 4, 50], [x + 4, 54], [x, 54]]] for x in (5, 20, 35)]
    path = write_geojson(
        tmp_path / "a.geojson", feature([large], objectType="annotation"), *(feature(rings) for rings in small)
    )
    assert read_outlines(path).n_outlines == 4


def test_the_nucleus_of_a_qupath_cell_is_read(tmp_path: Path) -> None:
    cell = feature([[[0, 0], [9, 0], [9, 8], [0, 8]]], objectType="cell")
    cell["nucleusGeometry"] = {"type": "Polygon", "coordinates": [SQUARE]}
    path = write_geojson(tmp_path / "a.geojson", cell)
    np.testing.assert_array_equal(read_outlines(path).labels((8, 9)), square_labels())


def test_rois_of_all_kinds_of_areas(tmp_path: Path) -> None:
    polygon = roifile.ImagejRoi.frompoints(SQUARE[:-1], name="3")
    rectangle = roifile.ImagejRoi()
    rectangle.roitype = roifile.ROI_TYPE.RECT
    rectangle.left, rectangle.top, rectangle.right, rectangle.bottom = 2, 1, 6, 4
    for roi, number in ((polygon, 3), (rectangle, 1)):
        path = write_rois(tmp_path / "a.zip", roi)
        assert is_outline_file(path)
        np.testing.assert_array_equal(read_outlines(path).labels((8, 9)), square_labels(number))
    single = tmp_path / "one.roi"
    single.write_bytes(polygon.tobytes())
    np.testing.assert_array_equal(read_outlines(single).labels((8, 9)), square_labels(3))
    points = roifile.ImagejRoi.frompoints([[1, 1], [2, 2]])
    points.roitype = roifile.ROI_TYPE.POINT
    found = read_outlines(write_rois(tmp_path / "b.zip", polygon, points))
    assert (found.n_outlines, found.left_out) == (1, ("left out 1 ROI: point, which has no area",))


def test_a_composite_roi_has_its_hole(tmp_path: Path) -> None:
    roi = roifile.ImagejRoi()
    roi.roitype = roifile.ROI_TYPE.RECT
    roi.left, roi.top, roi.right, roi.bottom = 2, 1, 6, 4
    path = [0, 2, 1, 1, 6, 1, 1, 6, 4, 1, 2, 4, 4, 0, 3, 2, 1, 5, 2, 1, 5, 3, 1, 3, 3, 4]
    roi.multi_coordinates, roi.shape_roi_size = np.array(path, np.float32), len(path)
    expected = square_labels()
    expected[2, 3:5] = 0
    found = read_outlines(write_rois(tmp_path / "a.zip", roi))
    np.testing.assert_array_equal(found.labels((8, 9)), expected)


def test_curves_of_which_a_roi_stores_only_corners_are_refused(tmp_path: Path) -> None:
    """ij.gui.PolygonRoi.fitSpline and Roi.setCornerDiameter: the polygon of what is stored has another area."""
    spline = roifile.ImagejRoi.frompoints(np.array(SQUARE[:-1]))
    spline.options = roifile.ROI_OPTIONS.SPLINE_FIT
    rounded = roifile.ImagejRoi(roitype=roifile.ROI_TYPE.RECT, left=2, top=1, right=6, bottom=4)
    rounded.rounded_rect_arc_size = 2
    for roi, kind in ((spline, "a fitted spline"), (rounded, "a rectangle with rounded corners")):
        with pytest.raises(ImageReadError, match=f"0.roi: the ROI is {kind}; make it a polygon"):
            read_outlines(write_rois(tmp_path / "a.zip", roi))


def test_outlines_of_another_image_are_refused(tmp_path: Path) -> None:
    path = write_geojson(tmp_path / "a.geojson", feature([SQUARE], name="8"))
    with pytest.raises(
        ImageValueError, match=r"1 outline of 1 \(the first is number 8\) lie outside the image of 8 x 2 pix"
    ):
        read_outlines(path).labels((8, 2))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.geojson", b'{"type": "FeatureColl', "cannot be decoded as GeoJSON; the file may be truncated"),
        ("a.geojson", b'{"a": 1}', "is JSON, but not GeoJSON"),
        ("a.geojson", json.dumps([feature([[[0, 0], [1, 1]]])]).encode(), "a ring needs at least three vertices"),
        ("a.geojson", json.dumps([feature([[["x", 0], [1, 1], [2, 2]]])]).encode(), "has no valid polygon"),
        ("a.zip", b"PK\3\4 and no more", "not an ImageJ ROI, or damaged"),
        ("a.roi", b"Iout", "not an ImageJ ROI, or damaged"),
        ("a.csv", b"x,y", "expected outlines as .geojson, .roi, .zip"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ImageReadError, match=message):
        read_outlines(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageReadError, match="cannot be read: No such file"):
        read_outlines(tmp_path / "a.geojson")


def test_a_zip_of_other_files_is_no_outline_file(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("notes.txt", "x")
    assert not is_outline_file(tmp_path / "a.zip")
    with pytest.raises(ImageReadError, match=r"the zip holds notes.txt, expected only .roi files"):
        read_outlines(tmp_path / "a.zip")
