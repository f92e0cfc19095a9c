"""Nuclei found block by block are those of the whole image: complete, once each, and numbered without gaps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from nuclei_runtime import Segmenter, View
from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.errors import ImageError, ImageTooLargeError, ImageValueError
from nuclei_runtime.model.session import Session
from nuclei_runtime.readers.plane import Plane, plane_of
from nuclei_runtime.segmentation import memory
from nuclei_runtime.segmentation.block_search import Grid
from nuclei_runtime.segmentation.blocks import Block, label_maps, segment_plane
from nuclei_runtime.segmentation.memory import MAX_COMPUTED, Budget
from nuclei_runtime.steps.instances import find_instances
from nuclei_runtime.steps.scale import Scale
from nuclei_runtime.steps.step import Step
from nuclei_runtime.steps.tiling import computed_px, tile_spans

SMALL = Grid(core_px=32, margin_px=16, max_margin_px=256)


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the tiles of the models' cards, which are far smaller than the images."""
    monkeypatch.setattr(memory, "MAX_CORE_PX", 0)


@pytest.fixture(scope="module")
def identity(identity_model: Path) -> Segmenter:
    return Segmenter(identity_model, threads=1)


@pytest.fixture(scope="module")
def tiled(tiled_model: Path) -> Segmenter:
    return Segmenter(tiled_model, threads=1)


def whole(segmenter: Segmenter, image: NDArray) -> NDArray[np.int32]:
    """The nuclei of an image whose maps are computed and labelled in one piece."""
    (maps,) = segmenter.predict([image])
    return find_instances(maps, segmenter.card.postprocessing)


def together(blocks: Iterator[Block], shape: tuple[int, ...]) -> NDArray[np.int32]:
    """Put blocks together, and check what `Block` promises."""
    labels = np.zeros(shape[:2], np.int32)
    covered = np.zeros(shape[:2], bool)
    count = 0
    for block in blocks:
        part = labels[block.rows, block.columns]
        found = block.labels > 0
        assert block.labels.shape == block.image.shape[:2] == part.shape
        assert not part[found].any(), "two nuclei on one pixel"
        numbers = np.unique(block.labels[found])
        assert numbers.tolist() == list(range(count + 1, count + 1 + numbers.size))
        count += numbers.size
        part[found] = block.labels[found]
        covered[block.rows, block.columns] = True
    assert covered.all()
    return labels


def in_blocks(segmenter: Segmenter, image: NDArray, grid: Grid = SMALL) -> NDArray[np.int32]:
    return together(segment_plane(plane_of(image), segmenter.network, grid=grid), image.shape)


def by_first_pixel(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Number nuclei in the order in which a row-by-row scan finds them."""
    numbers, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    first[numbers == 0] = -1
    order = np.argsort(np.argsort(first)) + (0 if 0 in numbers else 1)
    return order[inverse].reshape(labels.shape).astype(np.int32)


def smooth(rng: np.random.Generator, shape: tuple[int, int], sigma: float) -> NDArray[np.float32]:
    """Smooth noise, evenly distributed from 0 to 1, without equal values."""
    noise = ndimage.gaussian_filter(rng.standard_normal(shape), sigma)
    return ((noise.ravel().argsort().argsort() + 0.5) / noise.size).reshape(shape).astype(np.float32)


def random_maps(seed: int, shape: tuple[int, int], share: float, sigma: float) -> NDArray[np.float32]:
    """Maps with a given share of foreground; from 0.6 on, nearly all of it is one connected piece."""
    rng = np.random.default_rng(seed)
    foreground = smooth(rng, shape, 2 * sigma) * 0.5 + share * 0.5
    return np.dstack([foreground, smooth(rng, shape, sigma), smooth(rng, shape, sigma) * 0.7]).astype(np.float32)


def disks(shape: tuple[int, int], *placed: tuple[int, int, int]) -> NDArray[np.float32]:
    """Maps with one nucleus per row, column and radius; where they overlap, the deepest wins."""
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]]
    maps = np.zeros((*shape, 3), np.float32)
    for row, column, radius in placed:
        depth = 1 - np.hypot(rows - row, columns - column) / (radius + 0.5)
        # Each has a different slope, so that no two values are equal.
        depth += 1e-4 * (rows + np.pi * columns) / max(shape)
        maps[..., 1] = np.maximum(maps[..., 1], np.clip(depth, 0, 1))
    maps[..., 0] = maps[..., 1] > 0.05
    return maps


def test_nuclei_on_borders_and_corners_are_complete_and_found_once(identity: Segmenter) -> None:
    """One disk at every position relative to a cut: a radius of 8 px on cores of 32 px."""
    placed = [(16 + 29 * i, 14 + 29 * j, 8) for i in range(6) for j in range(7)]
    image = disks((181, 207), *placed)
    expected = whole(identity, image)
    assert expected.max() == len(placed)
    found = in_blocks(identity, image)
    np.testing.assert_array_equal(by_first_pixel(found), by_first_pixel(expected))


def test_touching_nuclei_across_a_border_stay_apart(identity: Segmenter) -> None:
    image = disks((96, 96), (30, 30, 9), (30, 44, 9), (46, 31, 9), (47, 46, 9), (64, 64, 9), (64, 79, 9))
    expected = whole(identity, image)
    assert expected.max() == 6
    np.testing.assert_array_equal(by_first_pixel(in_blocks(identity, image)), by_first_pixel(expected))


@pytest.mark.parametrize("centre", [(100, 100), (64, 64), (60, 140)])
def test_a_nucleus_larger_than_a_block_is_one(identity: Segmenter, centre: tuple[int, int]) -> None:
    image = disks((200, 210), (*centre, 58), (12, 195, 7), (190, 12, 7))
    expected = whole(identity, image)
    assert expected.max() == 3
    np.testing.assert_array_equal(by_first_pixel(in_blocks(identity, image)), by_first_pixel(expected))


def test_what_is_larger_than_any_window_is_refused_with_its_place(identity: Segmenter) -> None:
    image = disks((200, 210), (100, 100, 58))
    with pytest.raises(ImageError, match="more than 32 pixels beyond rows 64 to 96, columns 96 to 128"):
        in_blocks(identity, image, Grid(core_px=32, margin_px=16, max_margin_px=32))


def test_a_piece_without_a_marker_is_one_nucleus_across_blocks(identity: Segmenter) -> None:
    """The whole piece is its marker; a set of pixels too small to be a marker lies where a window ends."""
    image = np.zeros((120, 120, 3), np.float32)
    image[10:100, 50:56, 0] = 0.9
    image[46:50, 52, 1] = 0.9
    expected = whole(identity, image)
    assert expected.max() == 1
    for core_px in (16, 31, 32, 40):
        np.testing.assert_array_equal(in_blocks(identity, image, Grid(core_px, 8, 256)), expected)


def test_blocks_without_nuclei_and_planes_without_any(identity: Segmenter) -> None:
    assert in_blocks(identity, np.zeros((70, 90, 3), np.float32)).max() == 0
    image = disks((150, 150), (140, 140, 6))
    np.testing.assert_array_equal(in_blocks(identity, image), whole(identity, image))


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (2, 200), (33, 31), (32, 64), (65, 129)])
def test_any_size_is_cut_into_blocks(identity: Segmenter, shape: tuple[int, int]) -> None:
    image = random_maps(sum(shape), shape, 0.5, 2.0)
    expected = whole(identity, image)
    found = in_blocks(identity, image)
    assert found.max() == expected.max()
    assert (expected.max() > 0) == (shape != (1, 1))
    if max(shape) < 200:
        np.testing.assert_array_equal(by_first_pixel(found), by_first_pixel(expected))


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 1.0])
def test_random_maps_give_the_nuclei_of_the_whole_image(identity: Segmenter, share: float) -> None:
    """Even if everything is one piece of foreground, as long as a window's margin spans two nuclei or more."""
    equal = 0
    for seed in range(8):
        image = random_maps(seed, (150, 170), share, 3.0)
        expected = whole(identity, image)
        assert expected.max() > 25
        found = in_blocks(identity, image, Grid(core_px=40, margin_px=40, max_margin_px=320))
        assert found.max() == expected.max()
        equal += np.array_equal(by_first_pixel(found), by_first_pixel(expected))
    assert equal >= 7


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    share=st.floats(0.1, 1.0),
    sigma=st.floats(0.7, 5.0),
    core_px=st.integers(8, 64),
    margin_px=st.integers(1, 24),
)
def test_each_seed_gives_one_nucleus_in_one_piece_whatever_the_cuts(
    identity: Segmenter,
    seed: int,
    shape: tuple[int, int],
    share: float,
    sigma: float,
    core_px: int,
    margin_px: int,
) -> None:
    """Even with margins that are far too narrow: `together` checks that no pixel belongs to two nuclei."""
    image = random_maps(seed, shape, share, sigma)
    expected = whole(identity, image)
    found = in_blocks(identity, image, Grid(core_px, margin_px, 2048))
    assert found.max() == expected.max()
    assert not found[expected == 0].any()
    for label, place in enumerate(ndimage.find_objects(found), 1):
        assert ndimage.label(found[place] == label)[1] == 1


def test_connected_components_are_shared_out_as_well(identity_model: Path, tmp_path: Path) -> None:
    import onnx

    from nuclei_runtime.model.card import METADATA_KEY

    model = onnx.load(identity_model)
    card = replace(
        Segmenter(identity_model).card,
        postprocessing=Step("connected_components", {"threshold": 0.5, "min_area_px": 9}),
    )
    onnx.helper.set_model_props(model, {METADATA_KEY: card.to_json()})
    onnx.save(model, tmp_path / "components.onnx")
    segmenter = Segmenter(tmp_path / "components.onnx", threads=1)
    image = random_maps(5, (160, 140), 0.45, 2.0)
    expected = whole(segmenter, image)
    assert expected.max() > 10
    np.testing.assert_array_equal(by_first_pixel(in_blocks(segmenter, image)), by_first_pixel(expected))


FIELD, _ = fluorescence_field(5, height=230, width=190, n_nuclei=40)
KINDS = {
    "8 bit": FIELD,
    "16 bit": FIELD.astype(np.uint16) * 200,
    "signed": FIELD.astype(np.int16) - 100,
    "float": FIELD / 7,
    "RGB": np.dstack([FIELD, FIELD // 2, FIELD]),
    "RGBA": np.dstack([FIELD, FIELD, FIELD, np.full_like(FIELD, 255)]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_real_session_gives_the_nuclei_of_the_whole_image(
    tiled: Segmenter, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Including normalisation, also if the percentiles of floats are estimated from a sample."""
    monkeypatch.setattr("nuclei_runtime.steps.structure.MAX_SAMPLED_BLOCKS", 50)
    monkeypatch.setattr("nuclei_runtime.segmentation.plane_input.REGION_PX", 64)
    image = KINDS[kind]
    expected = whole(tiled, image)
    assert expected.max() > 20
    found = in_blocks(tiled, image, Grid(core_px=64, margin_px=48, max_margin_px=256))
    np.testing.assert_array_equal(by_first_pixel(found), by_first_pixel(expected))


def test_arrays_and_planes_go_the_same_way(identity: Segmenter) -> None:
    image = random_maps(8, (1060, 1090), 0.4, 6.0)
    labels = identity.segment(image).labels
    assert labels.max() > 100
    np.testing.assert_array_equal(labels, identity.find_instances(next(identity.predict([image]))).labels)
    np.testing.assert_array_equal(labels, together(segment_plane(plane_of(image), identity.network), image.shape))
    expected = whole(identity, image)
    assert not np.array_equal(labels, expected)  # the numbers follow the blocks
    np.testing.assert_array_equal(by_first_pixel(labels), by_first_pixel(expected))
    small = image[:1000, :1024]  # one block
    np.testing.assert_array_equal(identity.segment(small).labels, whole(identity, small))


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_maps_in_memory_give_the_labels_of_the_plane(identity: Segmenter, share: float) -> None:
    """Even where cuts move borders: evaluation scores the same labels that users get."""
    n_moved = 0
    for seed in range(6):
        image = random_maps(seed, (150, 170), share, 3.0)
        (maps,) = identity.predict([image])
        grid = Grid(core_px=30, margin_px=4, max_margin_px=320)
        found = label_maps(maps, identity.network, grid)
        np.testing.assert_array_equal(found, in_blocks(identity, image, grid))
        n_moved += not np.array_equal(by_first_pixel(found), by_first_pixel(whole(identity, image)))
    assert n_moved > 0 or share < 1


def test_a_plane_that_a_network_takes_in_one_piece_is_one_block(tiny_model: Path) -> None:
    segmenter = Segmenter(tiny_model, threads=1)
    (block,) = segment_plane(plane_of(FIELD), segmenter.network, grid=SMALL)
    np.testing.assert_array_equal(block.labels, segmenter.segment(FIELD).labels)
    assert block.image.shape == FIELD.shape


def counted(image: NDArray, *, reads_blocks: bool) -> tuple[Plane, list[tuple[slice, slice]]]:
    """A plane that records what is read from it."""
    calls: list[tuple[slice, slice]] = []

    def read(rows: slice, columns: slice) -> NDArray:
        calls.append((rows, columns))
        return image[rows, columns]

    return replace(plane_of(image), read=read, reads_blocks=reads_blocks), calls


def test_no_more_is_read_at_once_than_a_tile_or_a_block(tiled: Segmenter) -> None:
    image, _ = fluorescence_field(5, height=400, width=420, n_nuclei=60)
    plane, calls = counted(image, reads_blocks=True)
    list(segment_plane(plane, tiled.network, grid=Grid(core_px=64, margin_px=32, max_margin_px=128)))
    after_normalisation = calls[2:]
    assert max(rows.stop - rows.start for rows, _ in after_normalisation) <= 64 + 2 * 32
    assert max(columns.stop - columns.start for _, columns in after_normalisation) <= 64 + 2 * 32


def test_the_network_sees_each_pixel_of_a_core_once(tiled: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = 0
    run = Session.run

    def counting(session: object, batch: NDArray) -> NDArray:
        nonlocal runs
        runs += 1
        return run(session, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(Session, "run", counting)
    in_blocks(tiled, FIELD)
    tiling = tiled.card.input.tiling
    assert tiling is not None
    assert runs == len(tile_spans(FIELD.shape[0], tiling)) * len(tile_spans(FIELD.shape[1], tiling))


def test_values_that_are_not_finite_are_refused_wherever_they_lie(tiled: Segmenter) -> None:
    image = FIELD.astype(np.float32)
    image[200, 150] = np.nan
    with pytest.raises(ImageValueError, match="NaN"):
        in_blocks(tiled, image)


def test_a_format_read_in_one_piece_that_does_not_fit_is_refused_before_it_is_read(
    tiled: Segmenter, tiny_model: Path
) -> None:
    plane, calls = counted(np.broadcast_to(np.uint16(0), (30_000, 20_000)), reads_blocks=False)
    with pytest.raises(ImageTooLargeError, match=r"30000 x 20000 pixels of uint16.*1024 MiB may be used.*tiled TIFF"):
        next(segment_plane(plane, tiled.network, max_memory=1 << 30))
    plane = replace(plane, reads_blocks=True)
    with pytest.raises(ImageTooLargeError, match="needs the whole image at once"):
        next(segment_plane(plane, Segmenter(tiny_model, threads=1).network, max_memory=1 << 30))
    assert calls == []


def test_a_ceiling_that_nothing_fits_under_is_refused_with_the_least_that_works(
    stem_unet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The memory of this process varies from moment to moment, and so would the smallest ceiling that works.
    monkeypatch.setattr(memory, "resident_bytes", lambda: 90 << 20)
    monkeypatch.setattr(memory, "START_SPREAD_BYTES", 0)  # the margin in the message is not part of the minimum
    segmenter = Segmenter(stem_unet, threads=1)
    plane = replace(plane_of(np.broadcast_to(np.uint8(0), (9000, 9000))), reads_blocks=True)
    with pytest.raises(ImageTooLargeError, match=r"need about (\d+) MiB.*100 MiB may be used.*--max-memory") as caught:
        next(segment_plane(plane, segmenter.network, max_memory=100 << 20))
    needed = int(str(caught.value).split("need about ")[1].split()[0])
    assert 200 < needed - 90 < 1500

    tiling = segmenter.card.input.tiling
    assert tiling is not None
    with pytest.raises(ImageTooLargeError):
        Budget(plane, (needed - 1) << 20).tiling(tiling, 1536)
    cores = [Budget(plane, ceiling << 20).tiling(tiling, 1536).core_px for ceiling in range(needed, needed + 50)]
    # Smaller tiles would fit into less memory, but would compute each pixel more than ten times.
    assert min(cores) == tiling.halo_px
    assert max(cores) < tiling.core_px
    monkeypatch.setattr(memory, "MAX_CORE_PX", 2048)
    plenty = Budget(plane, 8 << 30).tiling(tiling, 1536)
    assert plenty.core_px > tiling.core_px
    assert computed_px((9000, 9000), plenty) <= MAX_COMPUTED * 9000**2
    # An image that is shown twice as large takes four times as much.
    assert Budget(plane, 800 << 20).tiling(tiling, 1536).core_px >= tiling.core_px
    enlarged = Segmenter(stem_unet, threads=1, view=View(Scale(enlarged=2))).network
    assert Budget(plane, 800 << 20, enlarged).tiling(tiling, 1536).core_px < tiling.core_px


def test_nuclei_do_not_depend_on_the_memory(stem_unet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network with the kernels of the real one: the tiles differ, but the nuclei and their numbers do not."""
    segmenter = Segmenter(stem_unet, threads=2)
    image, _ = fluorescence_field(6, height=336, width=800, n_nuclei=30)
    plane = replace(plane_of(image), reads_blocks=True)
    tiling = segmenter.card.input.tiling
    assert tiling is not None
    monkeypatch.setattr(memory, "resident_bytes", lambda: 90 << 20)
    scarce = (90 + 80) << 20
    assert Budget(plane, scarce).tiling(tiling, 1536).core_px < tiling.core_px
    found = together(segment_plane(plane, segmenter.network, max_memory=scarce), image.shape)
    assert found.max() >= 5
    np.testing.assert_array_equal(found, segmenter.segment(image).labels)
