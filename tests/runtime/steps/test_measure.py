"""The measurements of nuclei equal those of scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import regionprops_table

from nuclei_runtime.steps.measure import Regions, axis_lengths, measure_intensities
from nuclei_runtime.steps.nuclei_table import measure_nuclei

SAME = {
    "label": "label",
    "area_px": "area",
    "centroid_row_px": "centroid-0",
    "centroid_column_px": "centroid-1",
    "bbox_top_px": "bbox-0",
    "bbox_left_px": "bbox-1",
    "bbox_bottom_px": "bbox-2",
    "bbox_right_px": "bbox-3",
    "major_axis_px": "axis_major_length",
    "minor_axis_px": "axis_minor_length",
    "eccentricity": "eccentricity",
    "orientation_rad": "orientation",
    "perimeter_px": "perimeter",
    "equivalent_diameter_px": "equivalent_diameter_area",
    "solidity": "solidity",
    "intensity_mean": "intensity_mean",
    "intensity_min": "intensity_min",
    "intensity_max": "intensity_max",
    "intensity_sd": "intensity_std",
}
"""Columns, and what scikit-image calls them."""
PROPERTIES = {name.rpartition("-")[0] or name for name in SAME.values()}


def random_labels(seed: int, height: int = 90, width: int = 70) -> np.ndarray:
    """Nuclei of all shapes that touch each other and the edges, some of one pixel, with gaps in their numbers."""
    rng = np.random.default_rng(seed)
    points = rng.integers([height, width], size=(25, 2))
    seeds = np.zeros((height, width), int)
    seeds[tuple(points.T)] = np.arange(1, 26)
    nearest = ndimage.distance_transform_edt(seeds == 0, return_distances=False, return_indices=True)
    smooth = ndimage.gaussian_filter(rng.standard_normal((height, width)), 3)
    labels = np.where(smooth > np.quantile(smooth, 0.4), seeds[tuple(nearest)], 0)
    labels[5, 60] = 31
    labels[labels == 7] = 0
    return labels.astype(np.int32)


@pytest.mark.parametrize("seed", range(5))
def test_they_are_scikit_images(seed: int) -> None:
    labels = random_labels(seed)
    intensity = np.random.default_rng(seed).integers(0, 4096, labels.shape).astype(float)
    expected = regionprops_table(labels, intensity, properties=PROPERTIES)
    found = measure_nuclei(intensity, labels)
    assert set(found) - set(SAME) == {"touches_border", "circularity", "intensity_sum"}
    single = expected["area"] == 1
    assert single.any()
    assert len(expected["label"]) > 15
    for name, theirs in SAME.items():
        assert found[name].dtype.kind == expected[theirs].dtype.kind, name
        np.testing.assert_allclose(found[name], expected[theirs], rtol=1e-9, atol=1e-7, err_msg=name)
    np.testing.assert_allclose(found["intensity_sum"], ndimage.sum(intensity, labels, expected["label"]))
    with np.errstate(invalid="ignore", divide="ignore"):
        roundness = 4 * np.pi * expected["area"] / expected["perimeter"] ** 2
    np.testing.assert_array_equal(np.isnan(found["circularity"]), expected["perimeter"] == 0)
    has_one = expected["perimeter"] > 0
    np.testing.assert_allclose(found["circularity"][has_one], roundness[has_one])


@pytest.mark.parametrize("seed", range(8))
def test_convex_hulls_are_scikit_images(seed: int) -> None:
    """Of nuclei in several pieces too, as in labels that were drawn by hand."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.standard_normal((80, 90)), seed / 2)
    labels = ndimage.label(noise > np.quantile(noise, 0.6))[0].astype(np.int32)
    if seed == 0:
        labels = np.where(rng.random(labels.shape) < 0.02, rng.integers(1, 9, labels.shape), 0).astype(np.int32)
    expected = regionprops_table(labels, properties=("area", "area_convex"))
    np.testing.assert_array_equal(
        measure_nuclei(labels, labels)["solidity"], expected["area"] / expected["area_convex"]
    )


@pytest.mark.parametrize("shape", [(40, 30), (1, 1)])
def test_a_frame_without_nuclei_gives_an_empty_table_with_all_columns(shape: tuple[int, int]) -> None:
    empty = np.zeros(shape, np.int32)
    one = np.ones(shape, np.int32)
    for image in (np.zeros(shape), np.zeros((*shape, 3), np.uint8)):
        found = measure_nuclei(image, empty)
        expected = measure_nuclei(image, one)
        assert {name: (values.shape, values.dtype) for name, values in found.items()} == {
            name: ((0,), values.dtype) for name, values in expected.items()
        }
    assert [lengths.tolist() for lengths in axis_lengths(Regions.of(empty), (0.5, 0.25))] == [[], []]


def test_a_square_a_line_and_a_pixel() -> None:
    labels = np.zeros((12, 12), np.int32)
    labels[1:5, 1:5], labels[7, 2:11], labels[10, 10] = 1, 2, 3
    found = measure_nuclei(np.ones(labels.shape), labels)
    assert found["area_px"].tolist() == [16, 9, 1]
    assert found["perimeter_px"][0] == 12
    assert found["minor_axis_px"][1:].tolist() == [0, 0]
    assert found["eccentricity"].tolist() == [0, 1, 0]
    assert found["orientation_rad"][1] == pytest.approx(np.pi / 2)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.5, 0.25), (2.0, 3.0)])
def test_axes_where_pixels_are_not_square(spacing: tuple[float, float]) -> None:
    labels = random_labels(9)
    expected = regionprops_table(labels, properties=("axis_major_length", "axis_minor_length"), spacing=spacing)
    for found, values in zip(axis_lengths(Regions.of(labels), spacing), expected.values(), strict=True):
        np.testing.assert_allclose(found, values, rtol=1e-9, atol=1e-7)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_colours_count_alike_and_alpha_not_at_all(channels: int) -> None:
    labels = random_labels(2)
    image = np.random.default_rng(2).integers(0, 256, (*labels.shape, channels)).astype(np.uint8)
    grey = image[..., :3].mean(axis=-1)
    expected = regionprops_table(labels, grey, properties=("intensity_mean", "intensity_max", "intensity_min"))
    found = measure_intensities(Regions.of(labels), image)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name.removeprefix("intensity_")], values, rtol=1e-12)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("channels", [(), (3,)])
def test_huge_intensities_are_measured_like_others(channels: tuple[int, ...]) -> None:
    """Their squares, and the sum of three colours, are beyond float64."""
    labels = random_labels(3)
    image = np.random.default_rng(3).uniform(-1, 1, (*labels.shape, *channels))
    unit = 2.0**1023
    expected, found = (measure_intensities(Regions.of(labels), one) for one in (image, image * unit))
    for name in ("mean", "min", "max", "sd"):
        np.testing.assert_allclose(found[name], expected[name] * unit, rtol=1e-12)
    is_finite = np.abs(expected["sum"]) < 1
    assert is_finite.any()
    np.testing.assert_allclose(found["sum"][is_finite], expected["sum"][is_finite] * unit, rtol=1e-12)


def test_numbers_beyond_sixteen_bits() -> None:
    labels = np.zeros((3, 9), np.int32)
    labels[0, :4], labels[2, 3:], labels[0, 8] = 70_001, 5, 200_000
    found = measure_nuclei(labels.astype(float), labels)
    assert found["label"].tolist() == [5, 70_001, 200_000]
    assert found["intensity_mean"].tolist() == [5, 70_001, 200_000]
    assert found["area_px"].tolist() == [6, 4, 1]
