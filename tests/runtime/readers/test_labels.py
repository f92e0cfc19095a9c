"""Label images as napari, Fiji and others save them become numbers, and what is no label image is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from nuclei_runtime.errors import ImageError, ImageShapeError, ImageValueError
from nuclei_runtime.readers.labels import open_labels
from nuclei_runtime.readers.plane import Plane, plane_of

LABELS = np.zeros((40, 50), np.uint16)
LABELS[3:9, 4:12], LABELS[20:30, 5:9], LABELS[35:, 40:] = 7, 300, 1
WHOLE = slice(0, 40), slice(0, 50)


def image(time: int | None = None, height: int = 40) -> Plane:
    plane = plane_of(np.zeros((height, 50), np.uint8))
    return Plane(time, None, plane.shape, plane.dtype, None, plane.read, True)


def read(path: Path, plane: Plane | None = None, planes: Sequence[Plane] | None = None) -> np.ndarray:
    with open_labels(path) as file:
        return file.of(plane or image(), planes).read(*WHOLE)


@pytest.mark.parametrize("dtype", ["uint16", "int16", "uint32", "int64", "float32"])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"tile": (16, 16)}], ids=str)
def test_labels_of_any_type_are_the_same_numbers(tmp_path: Path, dtype: str, options: dict[str, object]) -> None:
    tifffile.imwrite(tmp_path / "a.tif", LABELS.astype(dtype), **options)
    found = read(tmp_path / "a.tif")
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, LABELS)


def test_labels_of_fiji_and_of_pillow_are_read(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", LABELS.astype(np.float32), imagej=True)
    np.testing.assert_array_equal(read(tmp_path / "a.tif"), LABELS)
    Image.fromarray((LABELS % 256).astype(np.uint8)).save(tmp_path / "b.png")
    np.testing.assert_array_equal(read(tmp_path / "b.png"), LABELS % 256)


@pytest.mark.parametrize(
    ("stored", "error", "message"),
    [
        (LABELS + np.float32(0.5), ImageValueError, "found the label 0.5, expected whole numbers"),
        (LABELS.astype(np.int16) - 1, ImageValueError, "found the label -1, expected 0 for the background"),
        (
            LABELS.astype(np.uint32) << 20,
            ImageValueError,
            "found the label 314572800, expected 0 .* renumber the nuclei",
        ),
        (np.dstack([LABELS.astype(np.uint8)] * 3), ImageShapeError, "this is a colour picture of labels"),
        (LABELS[:-1], ImageShapeError, "the labels are 39 x 50 pixels, the image is 40 x 50"),
        (
            LABELS.T.copy(),
            ImageShapeError,
            "the labels are 50 x 40 pixels, the image is 40 x 50; .* scaling or rotation",
        ),
    ],
    ids=["halves", "negative", "large", "colours", "cropped", "turned"],
)
def test_what_is_no_label_image_of_this_image_is_refused(
    tmp_path: Path, stored: np.ndarray, error: type[ImageError], message: str
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb" if stored.ndim == 3 else "minisblack")
    with pytest.raises(error, match=message):
        read(tmp_path / "a.tif")


def test_labels_with_times_and_depths_swapped_are_refused(tmp_path: Path) -> None:
    """There are as many of them, and the second would count as the labels of another plane."""
    stack = np.stack([LABELS * number for number in range(1, 7)]).reshape(3, 2, *LABELS.shape)
    planes = [replace(plane_of(stack[t, z]), time=t, z=z) for t in range(3) for z in range(2)]
    for axes, labels in (("TZYX", stack), ("ZTYX", np.moveaxis(stack, 0, 1))):
        tifffile.imwrite(tmp_path / "a.ome.tif", labels, metadata={"axes": axes})
        for plane in planes:
            np.testing.assert_array_equal(read(tmp_path / "a.ome.tif", plane, planes), stack[plane.time, plane.z])  # type: ignore[index]
    tifffile.imwrite(tmp_path / "a.ome.tif", stack, metadata={"axes": "ZTYX"})
    with pytest.raises(ImageShapeError, match="a plane of time 0 and Z 2 where the image has one of time 1 and Z 0"):
        read(tmp_path / "a.ome.tif", planes[0], planes)


def test_a_stack_of_labels_belongs_to_the_planes_in_their_order(tmp_path: Path) -> None:
    stack = np.stack([LABELS, LABELS * 2, LABELS * 3])
    tifffile.imwrite(tmp_path / "a.ome.tif", stack, metadata={"axes": "TYX"})
    frames = [image(index) for index in range(3)]
    for index in range(3):
        np.testing.assert_array_equal(read(tmp_path / "a.ome.tif", image(index), frames), stack[index])
    with pytest.raises(ImageShapeError, match="the labels have 3 planes, the image 2"):
        read(tmp_path / "a.ome.tif", image(0), frames[:2])
    # As napari saves it, without names of the dimensions: those that are given for the image.
    stack = np.stack([*stack, LABELS])
    tifffile.imwrite(tmp_path / "b.tif", stack, metadata=None, photometric="minisblack")
    with pytest.raises(ImageShapeError), open_labels(tmp_path / "b.tif"):
        pass
    with open_labels(tmp_path / "b.tif", "TCYX") as file:
        np.testing.assert_array_equal(file.of(image(1), [*frames, image(3)]).read(*WHOLE), stack[1])
