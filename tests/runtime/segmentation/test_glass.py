"""The glass of large stained slides is skipped; no nucleus is lost, and nothing that is not glass counts as glass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from nuclei_runtime import Segmenter
from nuclei_runtime.arrays import Image
from nuclei_runtime.readers.plane import GLASS_SQUARE_PX, Plane, plane_of
from nuclei_runtime.segmentation.blocks import Block, segment_plane
from nuclei_runtime.segmentation.glass import without_glass
from nuclei_runtime.segmentation.plane_input import PlaneInput
from nuclei_runtime.steps.view import AS_IT_IS

GLASS = 240
PURPLE = (120, 80, 150)
SHAPE = (2100, 4200)


def slide(*nuclei: tuple[int, int], shape: tuple[int, int] = SHAPE, seed: int = 0) -> NDArray[np.uint8]:
    """Noisy glass that is darker towards one side, and a dark disk of 20 pixels at each place."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(-6, 7, (600, 500, 3))
    image = GLASS + np.tile(noise, (-(-shape[0] // 600), -(-shape[1] // 500), 1))[: shape[0], : shape[1]]
    image -= np.linspace(0, 8, shape[1], dtype=int)[:, np.newaxis]
    rows, columns = np.mgrid[-10:11, -10:11]
    disk = np.hypot(rows, columns) <= 10
    for row, column in nuclei:
        image[row - 10 : row + 11, column - 10 : column + 11][disk] = PURPLE
    return image.astype(np.uint8)


def squares_of(plane: Plane) -> list[tuple[int, int]]:
    """The squares that are not skipped."""
    assert plane.glass is not None
    return [(int(row), int(column)) for row, column in np.argwhere(~plane.glass)]


def test_what_is_not_glass_is_kept_with_a_margin() -> None:
    plane = without_glass(plane_of(slide((500, 500), (1500, 3000))))
    assert squares_of(plane) == [(0, 0), (1, 2), (1, 3)]  # column 3000 is 72 pixels from the next square
    kept = 2 * GLASS_SQUARE_PX**2 + GLASS_SQUARE_PX**2
    assert plane.glass_share == pytest.approx(1 - kept / (SHAPE[0] * SHAPE[1]))
    assert plane.shows_glass(slice(0, 1024), slice(1024, 2048))
    assert not plane.shows_glass(slice(0, 1024), slice(1000, 2048))


@pytest.mark.parametrize("offset", [0, 3, 5])
def test_a_single_small_nucleus_is_kept_wherever_it_lies(offset: int) -> None:
    """The smallest nuclei that networks find, dark as haematoxylin, some of them on the border of four means."""
    image = slide()
    for side, column in ((6, 500), (8, 2504), (12, 3600)):
        image[496 + offset : 496 + offset + side, column + offset : column + offset + side] = PURPLE
    assert squares_of(without_glass(plane_of(image))) == [(0, 0), (0, 2), (0, 3)]


def test_pale_tissue_is_kept_beside_dark_tissue() -> None:
    """Otsu's threshold would lie between the two."""
    image = slide()
    image[:1000, :2000] = (90, 30, 90)
    image[1500:2000, 2500:4000] = (236, 205, 220)
    plane = without_glass(plane_of(image))
    assert {(1, 2), (1, 3)} <= set(squares_of(plane))


def test_a_slide_without_glass_is_kept_whole() -> None:
    rng = np.random.default_rng(1)
    tissue = np.tile(rng.integers(60, 200, (50, 50, 3), np.uint8), (20, 90, 1))
    assert without_glass(plane_of(tissue)).glass_share == 0


def test_of_mere_glass_one_place_is_looked_at() -> None:
    plane = without_glass(plane_of(np.full((*SHAPE, 3), GLASS, np.uint8)))
    assert squares_of(plane) == [(0, 0)]


def test_colours_on_a_dark_ground_have_no_glass() -> None:
    blue = np.zeros((*SHAPE, 3), np.uint8)
    blue[..., 2] = 255 - slide((700, 900), (2000, 4000))[..., 2]
    assert without_glass(plane_of(blue)).glass_share == 0


@pytest.mark.parametrize(
    "image",
    [
        slide((500, 500), shape=(1000, 4096)),  # not large
        slide((500, 500))[..., 0],  # grey
        np.broadcast_to(np.float32(0.9), (*SHAPE, 3)),
    ],
    ids=["small", "grey", "float"],
)
def test_glass_is_looked_for_in_large_colour_planes_only(image: Image) -> None:
    plane = without_glass(plane_of(image))
    assert plane.glass is None
    assert plane.glass_share is None


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_a_coarser_level_shows_the_same(factor: int) -> None:
    image = slide((500, 500), (1500, 3000))

    def refuse(_rows: slice, _columns: slice) -> Image:
        raise AssertionError("the finest level was read")

    shape = SHAPE[0] // factor * factor, SHAPE[1] // factor * factor
    means = image[: shape[0], : shape[1]].reshape(shape[0] // factor, factor, shape[1] // factor, factor, 3)
    coarse = plane_of(means.mean(axis=(1, 3)).astype(np.uint8))
    too_coarse = plane_of(np.zeros((SHAPE[0] // 32, SHAPE[1] // 32, 3), np.uint8))
    plane = without_glass(replace(plane_of(image), read=refuse, coarser=(coarse, too_coarse)))
    assert squares_of(plane) == [(0, 0), (1, 2), (1, 3)]


def blocks_of(segmenter: Segmenter, plane: Plane, *, skips_glass: bool) -> list[Block]:
    return list(segment_plane(plane, replace(segmenter.network, skips_glass=skips_glass)))


def test_maps_are_those_of_the_slide_without_its_glass() -> None:
    """Dirt on the glass counts for the contrast only if the glass does."""
    image = np.random.default_rng(0).normal(GLASS, 1, (4160, 64, 3))
    rows, columns = np.mgrid[:4160, :64]
    for row in range(100, 900, 50):
        image[np.hypot(rows - row, columns - 32) < 10] = PURPLE
    image[2200:4100][(rows[2200:4100] % 12 < 7) & (columns[2200:4100] > 5)] -= 18
    slide_with_dirt = np.clip(image, 0, 255).astype(np.uint8)
    segmenter = Segmenter(threads=1, view=AS_IT_IS)
    found, network = segmenter.segment(slide_with_dirt), segmenter.network
    with_glass = PlaneInput(plane_of(slide_with_dirt), network.card.preprocessing).contrast
    assert None not in (found.contrast, with_glass)
    assert found.contrast.low != with_glass.low
    (maps,) = segmenter.predict([slide_with_dirt])
    np.testing.assert_array_equal(segmenter.find_instances(maps).labels, found.labels)
    assert found.count >= 16


def test_nuclei_are_the_same_without_the_glass(tiled_model: Path) -> None:
    """Two lie on the border of squares that are not skipped."""
    places = ((500, 500), (512, 1030), (600, 1019), (700, 3500))
    image = slide(*places, shape=(1024, 5120))
    segmenter = Segmenter(tiled_model, threads=1, stain="he")
    found, whole = (blocks_of(segmenter, plane_of(image), skips_glass=skips) for skips in (True, False))
    assert [block.glass_share for block in whole] == [None] * 5
    assert [block.glass_share for block in found] == [2 / 5] * 3
    nuclei = [
        {
            (block.rows.start + int(row), block.columns.start + int(column))
            for block in blocks
            for row, column in np.argwhere(block.labels)
            if np.abs(image[block.rows, block.columns][row, column].astype(int) - PURPLE).max() == 0
        }
        for blocks in (found, whole)
    ]
    assert nuclei[0] == nuclei[1]
    assert nuclei[0].issuperset(places)
