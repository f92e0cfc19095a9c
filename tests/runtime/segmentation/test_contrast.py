"""The same nuclei have the same areas, whatever else is in the image or is not: the bundled model, on drawn fields."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from nuclei_runtime.segmentation.segmenter import Segmenter

ALLOWED = 0.05
"""Relative change of the median area."""


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter(precision="int8")


def disks(side: int, centres: list[tuple[float, float]]) -> NDArray[np.int64]:
    """Draw nuclei of 7 to 10 px across their shorter and longer radius, numbered from 1."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:side, :side]
    truth = np.zeros((side, side), np.int64)
    for number, (row, column) in enumerate(centres, 1):
        a, b = random.uniform(7, 10, 2)
        truth[((rows - row) / a) ** 2 + ((columns - column) / b) ** 2 <= 1] = number
    return truth


SIX = disks(256, [(60, 60), (60, 150), (130, 90), (140, 190), (200, 50), (205, 150)])
MANY = disks(512, [(40 + 54 * (k // 9), 40 + 54 * (k % 9)) for k in range(81)])
CROWDED = disks(256, [(16 + 20 * (k // 12), 16 + 20 * (k % 12)) for k in range(144)])


def photograph(
    truth: NDArray[np.int64], side: int, *, background: float = 300, noise: float = 40, signal: float = 3000
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return a field of this side with the nuclei somewhere in it, and its truth."""
    start = (side - len(truth)) // 3
    where = (slice(start, start + len(truth)),) * 2
    image = background + noise * np.random.default_rng(1).standard_normal((side, side))
    image[where] += signal * ndimage.gaussian_filter((truth > 0).astype(float), 1.2)
    labels = np.zeros((side, side), np.int64)
    labels[where] = truth
    return image, labels


def relative_areas(found: NDArray[np.int32], truth: NDArray[np.int64]) -> list[float]:
    """Return the area over the true one for each nucleus, each of which has to be found."""
    ratios = []
    for number in np.unique(truth[truth > 0]):
        nucleus = truth == number
        label = np.bincount(found[nucleus]).argmax()
        assert label > 0, f"nucleus {number} is not found"
        ratios.append(float((found == label).sum() / nucleus.sum()))
    return ratios


CAMERAS = {
    "16 bit": (np.uint16, {}),
    "16 bit, dim": (np.uint16, {"signal": 500}),
    "16 bit, background 0": (np.uint16, {"background": 0, "noise": 0}),
    "8 bit": (np.uint8, {"background": 20, "noise": 3, "signal": 180}),
    "8 bit, background 0": (np.uint8, {"background": 0, "noise": 0, "signal": 200}),
    "float": (np.float32, {"background": 0.01, "noise": 0.002, "signal": 0.3}),
}


@pytest.mark.parametrize("name", CAMERAS)
def test_areas_do_not_depend_on_the_empty_field_around(segmenter: Segmenter, name: str) -> None:
    dtype, camera = CAMERAS[name]
    areas = {}
    for side in (256, 700, 1600):
        image, truth = photograph(SIX, side, **camera)
        found = segmenter.segment(image.clip(0, 65_535).astype(dtype))
        assert found.count == 6
        areas[side] = np.median(relative_areas(found.labels, truth))
    assert areas[700] == pytest.approx(areas[256], rel=ALLOWED)
    assert areas[1600] == pytest.approx(areas[256], rel=ALLOWED)


def test_areas_do_not_depend_on_how_crowded_a_field_is(segmenter: Segmenter) -> None:
    assert 0.5 < (CROWDED > 0).mean() < 0.6
    crowded, truth = photograph(CROWDED, 256)
    dense = segmenter.segment(crowded.astype(np.uint16))
    assert dense.count == 144
    few, few_truth = photograph(np.where(np.isin(CROWDED, [30, 60, 90, 113]), CROWDED, 0), 256)
    sparse = segmenter.segment(few.astype(np.uint16))
    assert sparse.count == 4
    expected = np.median(relative_areas(dense.labels, np.where(np.isin(truth, np.unique(few_truth)), truth, 0)))
    assert np.median(relative_areas(sparse.labels, few_truth)) == pytest.approx(expected, rel=ALLOWED)


def spoiled(kind: str) -> tuple[NDArray[np.uint16], NDArray[np.int64], int]:
    """Return a field of nuclei with something else in it, the truth of what it leaves, and how many objects it is."""
    image, truth = photograph(MANY, 512)
    random = np.random.default_rng(2)
    rows, columns = np.mgrid[:512, :512]
    covered, extra = np.zeros(image.shape, bool), 0
    if kind == "hot pixels":
        image[random.integers(0, 512, 600), random.integers(0, 512, 600)] = 65_535
    elif kind == "debris":
        covered, extra = (rows - 67) ** 2 + (columns - 67) ** 2 < 19**2, 1
    elif kind == "saturated corner":
        covered, extra = (rows < 150) & (columns < 150), 1
    elif kind == "black padding":
        padded = np.zeros((2304, 2304))
        padded[40:552, 300:812] = image
        wide = np.zeros(padded.shape, np.int64)
        wide[40:552, 300:812] = truth
        return padded.astype(np.uint16), wide, 0
    image[covered] = 65_535
    touched = np.unique(truth[ndimage.binary_dilation(covered, iterations=3)])
    return image.astype(np.uint16), np.where(np.isin(truth, touched), 0, truth), extra


@pytest.mark.parametrize("kind", ["hot pixels", "debris", "saturated corner", "black padding"])
def test_areas_do_not_depend_on_what_is_no_nucleus(segmenter: Segmenter, kind: str) -> None:
    image, truth = photograph(MANY, 512)
    expected = np.median(relative_areas(segmenter.segment(image.astype(np.uint16)).labels, truth))
    spoiled_image, left, extra = spoiled(kind)
    found = segmenter.segment(spoiled_image)
    n_left = len(np.unique(left)) - 1
    assert n_left >= 70
    assert n_left <= found.count <= 81 + extra
    assert np.median(relative_areas(found.labels, left)) == pytest.approx(expected, rel=ALLOWED)


@pytest.mark.parametrize("level", [0.0, 1.0, 30.0, 1000.0])
def test_background_alone_has_no_nuclei(segmenter: Segmenter, level: float) -> None:
    image = np.random.default_rng(3).poisson(level, (700, 700)).astype(np.uint16)
    assert segmenter.segment(image).count == 0


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_a_picture_in_one_colour_gives_the_outlines_of_the_grey_one(segmenter: Segmenter, channel: int) -> None:
    image, _ = photograph(SIX, 256)
    grey = (image / 16).clip(0, 255).astype(np.uint8)
    colour = np.zeros((*grey.shape, 3), np.uint8)
    colour[..., channel] = grey
    result = segmenter.segment(colour)
    np.testing.assert_array_equal(result.labels, segmenter.segment(grey).labels)
    assert result.count == 6
    assert result.contrast is not None
    assert result.contrast.channel == channel


def test_the_contrast_does_not_depend_on_the_blocks(segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    image, _ = photograph(SIX, 300)
    colour = np.dstack([np.zeros_like(image), image, np.full_like(image, 7)]).astype(np.uint16)
    whole = segmenter.segment(colour).contrast
    monkeypatch.setattr("nuclei_runtime.segmentation.plane_input.REGION_PX", 64)
    assert segmenter.segment(colour).contrast == whole
