"""Assembled tiles equal the whole image, with a real ONNX session."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from nuclei_runtime import Segmenter
from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.model.session import Session, load_session
from nuclei_runtime.steps.instances import find_instances
from nuclei_runtime.steps.preprocess import preprocess
from nuclei_runtime.steps.tiling import Tiling, run_tiled

REACH_PX = 4
"""How far the tiled model sees; `test_the_model_sees_as_far_as_these_tests_say` measures it."""


@pytest.fixture(scope="module")
def session(tiled_model: Path) -> Session:
    return load_session(tiled_model, threads=1)


def noise(height: int, width: int) -> NDArray[np.float32]:
    """Random multiples of 1/256: the tiled model computes with them without rounding."""
    rng = np.random.default_rng([height, width])
    return (rng.integers(0, 257, (height, width, 3)) / 256).astype(np.float32)


def whole(session: Session, image: NDArray[np.float32]) -> NDArray[np.float32]:
    return session.run(image[np.newaxis])[0]


def test_the_model_sees_as_far_as_these_tests_say(session: Session) -> None:
    size, reach = 40, 0
    grey = np.full((size, size, 3), 0.375, np.float32)
    for row, column in ((20, 20), (21, 21), (20, 21), (21, 20)):
        changed = grey.copy()
        changed[row, column] = 0.5
        rows, columns, _ = np.nonzero(whole(session, changed) != whole(session, grey))
        reach = max(reach, np.abs(rows - row).max(), np.abs(columns - column).max())
    assert reach == REACH_PX


@pytest.mark.parametrize("core_px", [2, 6, 16, 40, 64])
@pytest.mark.parametrize("size", [(2, 2), (2, 90), (16, 16), (18, 34), (80, 80), (96, 62)])
def test_tiles_equal_the_whole_bit_for_bit(session: Session, size: tuple[int, int], core_px: int) -> None:
    image = noise(*size)
    expected = whole(session, image)
    maps = run_tiled(session.run, image, Tiling(core_px, REACH_PX, 2))
    assert maps.dtype == np.float32
    np.testing.assert_array_equal(maps, expected)
    if min(size) >= 16:
        assert expected[..., 0].std() > 0.1  # the picture is not uniform


def test_with_a_halo_too_small_there_are_seams_and_only_there(session: Session) -> None:
    image = noise(80, 80)
    tiling = Tiling(core_px=16, halo_px=REACH_PX - 2, multiple_of_px=2)
    rows, columns, _ = np.nonzero(run_tiled(session.run, image, tiling) != whole(session, image))
    assert rows.size > 100

    def to_cut(positions: NDArray[np.intp]) -> NDArray[np.intp]:
        """How many pixels lie between a pixel and the nearest cut."""
        after = (positions - tiling.halo_px) % 16  # the first tile keeps its core and one halo
        return np.minimum(after, 15 - after)

    assert np.minimum(to_cut(rows), to_cut(columns)).max() < 2


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 1), (1, 300), (299, 1), (3, 5), (31, 17), (64, 65), (129, 127)])
@pytest.mark.parametrize("multiple_of_px", [2, 16])
def test_sizes_between_multiples_are_mirrored_up(session: Session, size: tuple[int, int], multiple_of_px: int) -> None:
    """By hand: below the last row, the rows repeat backwards, then forwards, and so on; the same for columns."""
    image = noise(*size)

    def mirrored(length: int) -> list[int]:
        there_and_back = [*range(length), *reversed(range(length))]
        grown = -(-length // multiple_of_px) * multiple_of_px
        return [there_and_back[index % (2 * length)] for index in range(grown)]

    padded = image[mirrored(size[0])][:, mirrored(size[1])]
    expected = whole(session, padded)[: size[0], : size[1]]
    for core_px in (16, 512):
        maps = run_tiled(session.run, image, Tiling(core_px, 16, multiple_of_px))
        assert maps.shape == (*size, 3)
        np.testing.assert_array_equal(maps, expected)


def test_all_tiles_are_alike_and_no_larger_than_needed_and_small_images_go_through_whole() -> None:
    sizes: list[tuple[int, ...]] = []

    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        sizes.append(batch.shape)
        return batch[..., :1]

    image = noise(150, 330)
    tiling = Tiling(core_px=64, halo_px=32, multiple_of_px=16)
    np.testing.assert_array_equal(run_tiled(run, image, tiling), image[..., :1])
    # 160 rows in two tiles that share 64 rows; 336 columns in five, four times 64 shared, up to a multiple of 16.
    assert sizes == [(1, 112, 128, 3)] * (2 * 5)

    sizes.clear()
    run_tiled(run, image, replace(tiling, core_px=512))
    assert sizes == [(1, 160, 336, 3)]


@pytest.mark.parametrize("threads", [1, 2])
def test_a_network_like_the_real_one_gives_the_same_bits_in_tiles_of_any_size(stem_unet: Path, threads: int) -> None:
    """With the halo and all kernels of the recipe `native`; the available memory decides the size of the tiles."""
    session = load_session(stem_unet, threads=threads)
    image = np.random.default_rng(3).random((384, 496, 3), dtype=np.float32)
    expected = whole(session, image)
    assert expected[..., 0].std() > 0.01
    for core_px in (112, 256):
        maps = run_tiled(session.run, image, Tiling(core_px, 112, 16))
        np.testing.assert_array_equal(maps, expected)
    too_narrow = run_tiled(session.run, image, Tiling(112, 32, 16))
    assert (too_narrow != expected).any()


def test_the_image_is_left_as_it_was(session: Session) -> None:
    image = noise(33, 50)
    before = image.copy()
    maps = run_tiled(session.run, image, Tiling(16, 8, 2))
    maps[:] = 7
    np.testing.assert_array_equal(image, before)


def test_a_segmenter_with_such_a_card_works_in_tiles(tiled_model: Path) -> None:
    segmenter = Segmenter(tiled_model)
    assert segmenter.card.input.tiling == Tiling(core_px=32, halo_px=8, multiple_of_px=2)
    image, truth = fluorescence_field(3, height=201, width=157, n_nuclei=20)
    (maps,) = segmenter.predict([image])

    once = preprocess(image, segmenter.card.preprocessing)  # percentiles of a tile would leave seams
    expected = whole(load_session(tiled_model), np.pad(once, ((0, 1), (0, 1), (0, 0)), mode="edge"))[:201, :157]
    np.testing.assert_allclose(maps, expected, atol=1e-6)

    labels = segmenter.segment(image).labels
    np.testing.assert_array_equal(labels, find_instances(maps, segmenter.card.postprocessing))
    assert labels.max() >= 10
    both = ((labels > 0) & (truth > 0)).sum()
    assert both / ((labels > 0) | (truth > 0)).sum() > 0.6
    assert not segmenter.segment(image).labels.flags.writeable
