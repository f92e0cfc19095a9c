"""Cells are the same wherever the plane is cut, and are scikit-image's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage
from skimage.segmentation import expand_labels

from nuclei_runtime import ImageValueError, Segmentation, plane_of
from nuclei_runtime.errors import InputsError
from nuclei_runtime.readers.plane import MeasuredChannel, Plane
from nuclei_runtime.runs.saving import parse_saved
from nuclei_runtime.segmentation.blocks import Block
from nuclei_runtime.segmentation.scratch_raster import ScratchRaster
from nuclei_runtime.steps.cells import MAX_GROWTH_PX, Expansion, Growth, parse_expansion
from nuclei_runtime.steps.measure import Measures
from nuclei_runtime.steps.nuclei_table import measure_nuclei
from nuclei_runtime.writers.measuring import Cells, measured_blocks
from nuclei_runtime.writers.outputs import OutputOptions

SHAPE = (130, 170)


def random_labels(seed: int) -> np.ndarray:
    """Small nuclei close together: many pixels are equally near to two or three of them."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(SHAPE), 2)
    labels: np.ndarray = ndimage.label(noise > np.quantile(noise, 0.8))[0].astype(np.int32)
    return labels


def rasters(labels: np.ndarray, left_out: np.ndarray) -> tuple[ScratchRaster, ScratchRaster]:
    whole = slice(0, SHAPE[0]), slice(0, SHAPE[1])
    found = []
    for values in (labels, left_out):
        found.append(ScratchRaster(values.dtype, memory_bytes=1 << 20))
        found[-1].write(*whole, values)
    return found[0], found[1]


@pytest.mark.parametrize("growth", [Growth(5, (1, 1)), Growth(12, (1, 1)), Growth(3, (0.4, 0.3))], ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_a_window_shows_the_cells_of_the_whole_plane(growth: Growth, seed: int) -> None:
    labels = random_labels(seed)
    expected = expand_labels(labels, growth.distance, growth.spacing)
    cells = Cells(*rasters(labels, np.zeros(SHAPE, bool)), SHAPE, growth)
    for row in range(0, SHAPE[0], 37):
        for column in range(0, SHAPE[1], 41):
            found = cells.read(slice(row, row + 37), slice(column, column + 41))
            part = expected[row : row + 37, column : column + 41]
            np.testing.assert_array_equal(found[: part.shape[0], : part.shape[1]], part)
            assert found.shape == (37, 41)
            assert not found[part.shape[0] :].any()
            assert not found[:, part.shape[1] :].any()
    assert (expected > 0).sum() > 1.5 * (labels > 0).sum()


@pytest.mark.parametrize(
    ("distance_um", "side_um", "distance_px"), [(1.95, 0.65, 3), (0.6, 0.2, 3), (1.2, 0.2, 6), (1.95, 0.325, 6)]
)
def test_a_distance_in_micrometres_is_that_of_its_pixels(distance_um: float, side_um: float, distance_px: int) -> None:
    """However the product is rounded."""
    labels = np.zeros((40, 40), np.int32)
    labels[15:25, 15:25] = 1
    growth = Growth(distance_um, (side_um, side_um))
    assert growth.margin_px == distance_px
    np.testing.assert_array_equal(growth.grow(labels), expand_labels(labels, distance_px))


def test_no_cell_grows_into_a_nucleus_that_was_left_out() -> None:
    everything = random_labels(4)
    left_out = everything % 2 == 0
    left_out &= everything > 0
    kept = np.where(left_out, 0, everything)
    found = Cells(*rasters(kept, left_out), SHAPE, Growth(6, (1, 1))).read(slice(0, SHAPE[0]), slice(0, SHAPE[1]))
    expected = expand_labels(everything, 6)
    np.testing.assert_array_equal(found, np.where(expected % 2 == 0, 0, expected))


def in_blocks(labels: np.ndarray, image: np.ndarray) -> Iterator[Block]:
    """Two blocks with windows that overlap, whose numbers interleave as in labels that a person corrected."""
    for remainder in (1, 0):
        own = np.where(labels % 2 == remainder, labels, 0)
        rows, columns = (np.flatnonzero(own.any(axis=axis)) for axis in (1, 0))
        window = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
        yield Block(*window, image[window], own[window].astype(np.int32))
    yield Block(slice(100, 130), slice(0, 30), image[100:130, :30], np.zeros((30, 30), np.int32))


def a_plane(image: np.ndarray, other: np.ndarray) -> Plane:
    channel = MeasuredChannel("GFP", lambda rows, columns: other[rows, columns])
    return replace(plane_of(image), pixel_size_um=(0.5, 0.5), measured=(channel,))


def together(tables: list[Measures]) -> Measures:
    assert len({tuple(table) for table in tables}) == 1
    order = np.argsort(np.concatenate([table["label"] for table in tables]))
    return {name: np.concatenate([table[name] for table in tables])[order] for name in tables[0]}


@pytest.mark.parametrize("kind", [np.uint16, np.float32])
def test_cells_and_rings_are_measured_in_blocks_as_in_one_piece(kind: type) -> None:
    labels, rng = random_labels(1), np.random.default_rng(1)
    image, other = (rng.integers(0, 60_000, SHAPE).astype(kind) for _ in range(2))
    plane, growth = a_plane(image, other), Growth(4, (1, 1))
    nothing = ScratchRaster(np.int32, memory_bytes=1 << 20), ScratchRaster(np.bool_, memory_bytes=1 << 20)
    cells = Cells(*nothing, SHAPE, growth)
    found = together([table for _, table in measured_blocks(plane, in_blocks(labels, image), nothing[0], cells)])
    grown = expand_labels(labels, 4)
    expected = measure_nuclei(image, labels, pixel_size_um=(0.5, 0.5), channels={"GFP": lambda: other}, cells=grown)
    assert list(found) == list(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-12, err_msg=name)  # centres are sums from elsewhere
        if "intensity" in name or "area" in name:
            np.testing.assert_array_equal(found[name], values, err_msg=name)

    ring = np.where(labels > 0, 0, grown)
    numbers = np.arange(1, labels.max() + 1)
    for name, image_of in {"": image, ":GFP": other}.items():
        for region, pixels in {"": labels, "cell_": grown, "ring_": ring}.items():
            means = ndimage.mean(image_of.astype(float), pixels, numbers)
            np.testing.assert_allclose(expected[f"{region}intensity_mean{name}"], means)
            sd = ndimage.standard_deviation(image_of.astype(float), pixels, numbers)
            np.testing.assert_allclose(expected[f"{region}intensity_sd{name}"], sd)
    np.testing.assert_array_equal(expected["cell_area_px"], np.bincount(grown.ravel())[1:])
    np.testing.assert_array_equal(expected["cell_area_um2"], expected["cell_area_px"] / 4)


def test_a_nucleus_without_room_around_it_has_no_ring() -> None:
    labels = np.ones((9, 9), np.int32)
    labels[3:6, 3:6] = 2
    labels[0] = 0
    table = measure_nuclei(np.full(labels.shape, 7), labels, cells=expand_labels(labels, 1))
    np.testing.assert_array_equal(table["ring_intensity_mean"], [7, np.nan])
    np.testing.assert_array_equal(table["cell_area_px"], [72, 9])


def test_python_measures_cells_that_it_is_given_and_no_others() -> None:
    labels = random_labels(2)
    image = np.random.default_rng(2).integers(0, 255, SHAPE).astype(np.uint8)
    result = Segmentation(labels)
    grown = expand_labels(labels, 5)
    table = result.table(image, cells=grown)
    np.testing.assert_allclose(table["cell_intensity_sum"], np.bincount(grown.ravel(), image.ravel())[1:])
    for wrong in (grown[1:], np.where(labels == 1, 2, grown), np.where(grown == 0, result.count + 1, grown)):
        with pytest.raises(ImageValueError, match="grow them from `labels`"):
            result.table(image, cells=wrong)
    with pytest.raises(ImageValueError, match="expected whole numbers: 0 for background"):
        result.table(image, cells=-grown)


@pytest.mark.parametrize(
    ("text", "expansion"),
    [("3um", Expansion(3, "um")), ("12 px", Expansion(12, "px")), ("2µm", Expansion(2, "um"))],
)
def test_a_distance_has_a_unit(text: str, expansion: Expansion) -> None:
    assert parse_expansion(text) == expansion


@pytest.mark.parametrize("text", ["3", "0px", "-3px", "3um2", "px", ""])
def test_a_distance_without_a_known_unit_is_refused(text: str) -> None:
    with pytest.raises(InputsError, match="3um or 12px"):
        parse_expansion(text)


def test_a_distance_is_refused_where_it_means_nothing_or_too_much() -> None:
    assert Expansion(3, "um").growth((0.5, 0.25)).margin_px == 12
    assert Expansion(MAX_GROWTH_PX, "px").growth(None).margin_px == MAX_GROWTH_PX
    with pytest.raises(ImageValueError, match=r"--expand 3um needs .* --pixel-size"):
        Expansion(3, "um").growth(None)
    with pytest.raises(ImageValueError, match="--expand 20um is 200 pixels here, expected at most 128"):
        Expansion(20, "um").growth((0.1, 0.1))


def test_cells_are_written_where_labels_are_if_nuclei_grow() -> None:
    growing = OutputOptions(expansion=Expansion(3, "um"))
    labels = ["labels", "original_labels"]
    assert [output.folder for output in growing.outputs] == [*labels, "cells", "overlays", "tables"]
    assert [output.folder for output in OutputOptions().outputs] == [*labels, "overlays", "tables"]
    assert [output.folder for output in replace(growing, folders=("overlays",)).outputs] == ["overlays", "tables"]
    assert len({str(options.describe()) for options in (OutputOptions(), growing)}) == 2
    with pytest.raises(InputsError, match="found 'cells'"):
        parse_saved("labels,cells")
