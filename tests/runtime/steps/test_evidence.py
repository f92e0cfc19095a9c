"""What is measured of the nuclei that were found tells blurred and overexposed images from others."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.steps.evidence import evidence_of, flatness_of, saturation_of, sharpness_of
from nuclei_runtime.steps.novelty import N_NUMBERS, Appearance, Familiar, appearance_of
from nuclei_runtime.steps.view_choice import Look, Signs


def disk(blur: float, *, radius: float = 10.0) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return a bright disk on a dark ground, and where it is."""
    rows, columns = np.mgrid[:120, :120]
    mask = np.hypot(rows - 60, columns - 60) < radius
    grey = ndimage.gaussian_filter(mask.astype(float), blur) if blur else mask.astype(float)
    return np.repeat(grey[..., np.newaxis], 3, axis=2).astype(np.float32), mask


def test_the_steepness_of_edges_falls_with_blur() -> None:
    found = [sharpness_of([disk(blur)], 1.0) for blur in (0, 1, 2, 4)]
    assert found[0] == pytest.approx(1)
    assert found == sorted(found, reverse=True)
    assert found[-1] < 0.5 < found[1]


def test_the_steepness_of_edges_is_that_of_the_image_as_it_is_shown() -> None:
    small, large = sharpness_of([disk(1.5)], 1.0), sharpness_of([disk(4.5, radius=30)], 1 / 3)
    assert large == pytest.approx(small, rel=0.2)  # three pixels of twenty are not eleven of sixty
    shown, mask = disk(1.5)
    assert sharpness_of([(1 - shown, mask)], 1.0) == pytest.approx(small, rel=1e-5)  # dark nuclei
    assert sharpness_of([(shown, mask), (shown, mask)], 1.0) == pytest.approx(small, rel=1e-5)


def test_the_edges_are_those_of_rows_and_columns_one_by_one() -> None:
    rng = np.random.default_rng(5)
    shown = rng.random((40, 55, 3)).astype(np.float32)
    mask = ndimage.gaussian_filter(rng.normal(size=(40, 55)), 3) > 0
    differences = {2: 0.0, 6: 0.0}
    for row, column in np.ndindex(mask.shape):
        for down, right, place, length in ((1, 0, row, 40), (0, 1, column, 55)):
            if not 5 <= place < length - 6 or mask[row, column] == mask[row + down, column + right]:
                continue
            for step in differences:
                before = shown[row - (step - 1) * down, column - (step - 1) * right]
                after = shown[row + step * down, column + step * right]
                differences[step] += float((before - after).sum()) * (1 if mask[row, column] else -1)
    assert sharpness_of([(shown, mask)], 1.0) == pytest.approx(differences[2] / differences[6], rel=1e-4)


def test_neighbours_are_equal_in_label_images_alone() -> None:
    grey = np.array([[0, 0.2, 0.2, 0.4], [1, 0.2, 0.3, 0.4]], np.float32)  # 3 of 7 pairs without black and white
    assert flatness_of([grey]) == pytest.approx(3 / 7)
    colours = np.repeat(grey[..., np.newaxis], 3, axis=2)
    assert flatness_of([colours, colours]) == pytest.approx(3 / 7)
    colours[0, 1, 2] = 0.9  # equal in two colours
    assert flatness_of([colours]) == pytest.approx(1 / 7)
    assert flatness_of([disk(0)[0]]) == 1  # a mask
    assert flatness_of([np.zeros((1, 1), np.float32)]) == 1
    shown = fluorescence_field(3, height=128, width=128)[0] / 255
    assert flatness_of([shown.astype(np.float32)]) < 0.7


def test_a_grey_part_is_one_with_three_equal_channels() -> None:
    shown, mask = disk(1.5)
    grey = np.ascontiguousarray(shown[..., 0])
    assert sharpness_of([(grey, mask)], 1.0) == pytest.approx(sharpness_of([(shown, mask)], 1.0), rel=1e-12)
    assert saturation_of([(grey, mask)]) == saturation_of([(shown, mask)])
    assert appearance_of([grey]) == appearance_of([shown])


def test_without_edges_there_is_no_steepness() -> None:
    shown, mask = disk(0)
    assert sharpness_of([(shown, mask & False)], 1.0) is None
    assert sharpness_of([(shown * 0, mask)], 1.0) is None


def test_the_saturation_is_the_clipped_share_of_the_nuclei() -> None:
    shown, mask = disk(0)
    assert saturation_of([(shown, mask)]) == 1
    assert saturation_of([(1 - shown, mask)]) == 1
    assert saturation_of([(shown * np.float32(0.9) + np.float32(0.05), mask)]) == 0
    assert saturation_of([(shown, mask), (shown * np.float32(0.5), mask)]) == 0.5
    coloured = shown.copy()
    coloured[..., 2] *= 0.5
    assert saturation_of([(coloured, mask)]) == 0
    assert saturation_of([(shown, mask & False)]) is None


def test_all_of_it_is_put_together() -> None:
    shown, mask = disk(1.5)
    look = Look(Signs(1, 1, 1, 0, 1), 1, 20.0)
    appearance = appearance_of([shown])
    assert appearance is not None
    identity = tuple(tuple(float(row == column) for column in range(N_NUMBERS)) for row in range(N_NUMBERS))
    near = Familiar(Appearance(*[0.0] * N_NUMBERS), identity)
    found = evidence_of([(shown, mask)], look, 25.0, expected_ap=0.7, scale=0.5, familiar=near)
    assert (found.contrast, found.expected_ap, found.appearance) == (None, 0.7, appearance)
    assert found.novelty == near.distance(appearance)
    assert found.size == pytest.approx(0.4)  # 10 of 25 pixels
    assert found.sharpness == sharpness_of([(shown, mask)], 0.5)
    assert found.saturation == saturation_of([(shown, mask)])


def test_of_an_image_without_nuclei_only_its_appearance_is_known() -> None:
    shown, mask = disk(1.5)
    found = evidence_of([(shown, mask & False)], Look(Signs(0, 0, 0, 0, 0), 0, 0.0), 25.0, expected_ap=0.0)
    assert (found.size, found.sharpness, found.saturation, found.novelty) == (None, None, None, None)
    assert found.appearance == appearance_of([shown])
