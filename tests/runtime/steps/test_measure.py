"""The measurements of nuclei equal those of scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import regionprops_table

from nuclei_runtime.steps.measure import Regions, axis_lengths, measure

PROPERTIES = (
    "label",
    "area",
    "centroid",
    "bbox",
    "axis_major_length",
    "axis_minor_length",
    "eccentricity",
    "orientation",
    "perimeter",
    "equivalent_diameter_area",
    "intensity_mean",
    "intensity_max",
    "intensity_min",
)


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
    found = measure(Regions.of(labels), labels, intensity)
    assert list(found) == list(expected)
    single = expected["area"] == 1
    assert single.any()
    assert len(expected["label"]) > 15
    for name, values in expected.items():
        assert found[name].dtype.kind == values.dtype.kind, name
        np.testing.assert_allclose(found[name], values, rtol=1e-9, atol=1e-7, err_msg=name)


@pytest.mark.parametrize("shape", [(40, 30), (1, 1)])
def test_a_frame_without_nuclei_gives_an_empty_table_with_all_columns(shape: tuple[int, int]) -> None:
    empty = np.zeros(shape, np.int32)
    one = np.ones(shape, np.int32)
    for image in (np.zeros(shape), np.zeros((*shape, 3), np.uint8)):
        found = measure(Regions.of(empty), empty, image)
        expected = measure(Regions.of(one), one, image)
        assert {name: (values.shape, values.dtype) for name, values in found.items()} == {
            name: ((0,), values.dtype) for name, values in expected.items()
        }
    assert [lengths.tolist() for lengths in axis_lengths(Regions.of(empty), (0.5, 0.25))] == [[], []]


def test_a_square_a_line_and_a_pixel() -> None:
    labels = np.zeros((12, 12), np.int32)
    labels[1:5, 1:5], labels[7, 2:11], labels[10, 10] = 1, 2, 3
    found = measure(Regions.of(labels), labels, np.ones(labels.shape))
    assert found["area"].tolist() == [16, 9, 1]
    assert found["perimeter"][0] == 12
    assert found["axis_minor_length"][1:].tolist() == [0, 0]
    assert found["eccentricity"].tolist() == [0, 1, 0]
    assert found["orientation"][1] == pytest.approx(np.pi / 2)


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
    found = measure(Regions.of(labels), labels, image)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-12)


def test_numbers_beyond_sixteen_bits() -> None:
    labels = np.zeros((3, 9), np.int32)
    labels[0, :4], labels[2, 3:], labels[0, 8] = 70_001, 5, 200_000
    found = measure(Regions.of(labels), labels, labels.astype(float))
    assert found["label"].tolist() == [5, 70_001, 200_000]
    assert found["intensity_mean"].tolist() == [5, 70_001, 200_000]
    assert found["area"].tolist() == [6, 4, 1]
