"""COCO JSON as truth: polygons, run lengths, and what is no nucleus."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from nuclei_train.data.annotations.coco import read_coco
from nuclei_train.data.annotations.drawing import NO_OUTLINE, OUTSIDE, AnnotationFile, Drawing
from nuclei_train.errors import DatasetError

SIZE = (20, 30)

TWO_SQUARES = "c26>00LD0<0D0<0D0<40000Y51fJ0000000000000008"
"""What pycocotools 2.0 writes for the mask below."""

MASK = np.zeros(SIZE, np.uint8)
MASK[3:9, 4:12] = 1
MASK[5:7, 6:9] = 0
MASK[12:19, 20:29] = 1


def coco(*segmentations: Any, size: tuple[int, int] = SIZE, **others: Any) -> bytes:
    annotations = [
        {"id": number, "image_id": 7, "category_id": 1, "segmentation": shape, **others}
        for number, shape in enumerate(segmentations)
    ]
    image = {"id": 7, "file_name": "sub/a.png", "height": size[0], "width": size[1]}
    return json.dumps({"images": [image], "annotations": annotations, "categories": []}).encode()


def read(content: bytes, image_name: str = "images/sub/a.png") -> Drawing:
    return read_coco(AnnotationFile("all.json", content, image_name, lambda: SIZE))


def painted(drawing: Drawing) -> np.ndarray:
    labels = np.zeros(drawing.shape, np.int32)
    drawing.paint(labels, 0)
    return labels


def runs(mask: np.ndarray) -> list[int]:
    flat = np.concatenate([[0], mask.T.ravel(), [0]])
    return np.diff([0, *np.flatnonzero(np.diff(flat)), mask.size]).tolist()


@pytest.mark.parametrize("counts", [TWO_SQUARES, runs(MASK)], ids=["compressed", "plain"])
def test_run_lengths_are_decoded(counts: Any) -> None:
    np.testing.assert_array_equal(painted(read(coco({"size": list(SIZE), "counts": counts}))), MASK)


def test_polygons_are_drawn_and_pieces_are_one_nucleus_even_where_they_overlap() -> None:
    square, other = [2, 3, 6, 3, 6, 7, 2, 7], [4, 3, 9, 3, 9, 7, 4, 7]
    labels = painted(read(coco([square, other], [[20, 10, 23, 10, 23, 13, 20, 13]])))
    expected = np.zeros(SIZE, np.int32)
    expected[3:7, 2:9] = 2
    expected[10:13, 20:23] = 1
    np.testing.assert_array_equal(labels, expected)


def test_an_image_without_annotations_has_no_nuclei() -> None:
    assert not painted(read(coco())).any()


def test_crowds_and_boxes_and_what_lies_outside_are_said_to_be_left_out() -> None:
    square = [[2, 3, 6, 3, 6, 7, 2, 7]]
    assert [one.kind for one in read(coco(square, iscrowd=1)).left_out] == [NO_OUTLINE]
    assert [one.kind for one in read(coco([], bbox=[2, 3, 4, 4])).left_out] == [NO_OUTLINE]
    assert [one.kind for one in read(coco([[42, 3, 46, 3, 46, 7]])).left_out] == [OUTSIDE]


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ([[1, 2, 3]], "expected a polygon"),
        ([[1, 2, 3, 4, float("nan"), 6]], "expected a polygon"),
        ([["a", "b", "c", "d", "e", "f"]], "expected a polygon"),
        ({"size": [20, 31], "counts": TWO_SQUARES}, "its mask is"),
        ({"size": [20, 30], "counts": TWO_SQUARES[:-1]}, "do not add up"),
        ({"size": [20, 30], "counts": TWO_SQUARES[:5] + "\u00ff"}, "run lengths"),
        ({"size": [20, 30], "counts": [600, -1, 1]}, "do not add up"),
        ({"size": [20, 30]}, "do not add up"),
    ],
)
def test_damaged_annotations_are_refused_by_number(shape: Any, message: str) -> None:
    with pytest.raises(DatasetError, match=rf"^all\.json, annotation 0: .*{message}"):
        read(coco(shape))


def test_annotations_of_a_resized_copy_are_refused() -> None:
    with pytest.raises(DatasetError, match=r"says that sub/a\.png is 40 x 60 px, but the image is 20 x 30"):
        read(coco(size=(40, 60)))


def test_what_is_not_coco_is_refused() -> None:
    for content in (b"", b"{}", b'{"images": [1], "annotations": []}', b'{"images": [{}], "annotations": [{}]}'):
        with pytest.raises(DatasetError, match=r"^all\.json: "):
            read(content)
    with pytest.raises(DatasetError, match=r"does not list b\.png"):
        read(coco(), "images/sub/b.png")


@pytest.mark.parametrize(
    ("images", "image_ids", "message"),
    [
        (
            {1: "a.png", 2: "b.png"},
            [1, "2", 7],
            "2 of its 3 annotations belong to an image that it does not list; .*'2'",
        ),
        ({1: "a.png", 2: "./a.png"}, [1, 2], r"lists a\.png 2 times, with an id each"),
        ([(1, "a.png"), (1, "b.png")], [1], "gives several images the id 1"),
    ],
)
def test_annotations_that_would_be_lost_or_given_to_two_images_are_refused(
    images: Any, image_ids: list[Any], message: str
) -> None:
    listed = images.items() if isinstance(images, dict) else images
    document = {
        "images": [{"id": key, "file_name": name} for key, name in listed],
        "annotations": [{"id": n, "image_id": key} for n, key in enumerate(image_ids)],
    }
    with pytest.raises(DatasetError, match=rf"^all\.json: {message}"):
        read(json.dumps(document).encode(), "a.png")


def test_an_image_that_is_listed_twice_alike_is_one() -> None:
    document = json.loads(coco([[2, 3, 6, 3, 6, 7, 2, 7]]))
    document["images"] *= 2
    assert painted(read(json.dumps(document).encode())).max() == 1
