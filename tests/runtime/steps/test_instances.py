"""From maps to labelled nuclei."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from skimage import measure
from skimage.segmentation import watershed

from nuclei_runtime.steps.connected_components import connected_components
from nuclei_runtime.steps.instances import METHODS, find_instances
from nuclei_runtime.steps.marker_watershed import marker_watershed
from nuclei_runtime.steps.step import MAPS, Step
from nuclei_runtime.steps.windows import Window


def picture(*rows: str) -> np.ndarray:
    """``#`` is foreground; (H, W, 1) maps."""
    return np.array([[[0.9 if mark == "#" else 0.1] for mark in row] for row in rows], np.float32)


def test_pieces_are_numbered_row_by_row_and_touch_only_by_their_sides() -> None:
    maps = picture(
        "##...#",
        "##..#.",
        "......",
        "#.##..",
    )
    labels = connected_components(maps, threshold=0.5, min_area_px=1)
    assert labels.tolist() == [
        [1, 1, 0, 0, 0, 2],
        [1, 1, 0, 0, 3, 0],
        [0, 0, 0, 0, 0, 0],
        [4, 0, 5, 5, 0, 0],
    ]
    assert labels.dtype == np.int32


def test_small_pieces_are_dropped_and_the_others_renumbered() -> None:
    maps = picture(
        "#.###",
        "...#.",
        "##...",
    )
    assert connected_components(maps, threshold=0.5, min_area_px=2).tolist() == [
        [0, 0, 1, 1, 1],
        [0, 0, 0, 1, 0],
        [2, 2, 0, 0, 0],
    ]
    assert connected_components(maps, threshold=0.5, min_area_px=4).max() == 1
    assert connected_components(maps, threshold=0.5, min_area_px=5).max() == 0


def test_foreground_is_above_the_threshold_not_at_it() -> None:
    maps = np.array([[[0.25], [0.5], [0.5000001], [1.0]]], np.float32)
    assert connected_components(maps, threshold=0.5, min_area_px=1).tolist() == [[0, 0, 1, 1]]


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_all_background_and_all_foreground(value: float) -> None:
    labels = connected_components(np.full((5, 7, 1), value, np.float32), threshold=0.5, min_area_px=1)
    assert labels.shape == (5, 7)
    assert np.unique(labels).tolist() == [int(value)]


def test_it_agrees_with_scikit_image_on_noise() -> None:
    maps = np.random.default_rng(4).random((80, 90, 1), dtype=np.float32)
    labels = connected_components(maps, threshold=0.45, min_area_px=1)
    assert labels.max() > 100
    assert np.array_equal(labels, measure.label(maps[..., 0] > 0.45, connectivity=1))
    kept = connected_components(maps, threshold=0.45, min_area_px=6)
    areas = np.bincount(labels.ravel())
    assert kept.max() == (areas[1:] >= 6).sum()
    assert set(np.bincount(kept.ravel())[1:]) == {area for area in areas[1:] if area >= 6}


def test_the_method_of_a_card_is_called_with_its_arguments() -> None:
    maps = picture("##.#")
    method = Step("connected_components", {"threshold": 0.5, "min_area_px": 2})
    assert find_instances(maps, method).tolist() == [[1, 1, 0, 0]]


PARAMETERS = {
    "threshold": 0.5,
    "marker_distance": 0.4,
    "marker_border": 0.5,
    "min_marker_area_px": 3,
    "min_peak_distance": 0.0,
    "min_area_px": 10,
}


def disks(*centres: tuple[float, float], radius: float = 12.0, size: tuple[int, int] = (50, 80)) -> np.ndarray:
    """Maps of equal disks, as a good network predicts them; (H, W, 3)."""
    rows, columns = np.indices(size)
    depths = np.array([1 - np.hypot(rows - row, columns - column) / radius for row, column in centres])
    deepest, *others = np.sort(depths, axis=0)[::-1]
    foreground = deepest > 0
    between = deepest - others[0] < 0.1 if others else np.zeros(size, bool)
    maps = np.stack([foreground * 0.9 + 0.05, np.clip(deepest, 0, 1), (foreground & between) * 0.9], axis=-1)
    return maps.astype(np.float32)


def pieces_of(labels: np.ndarray) -> list[int]:
    """The number of 4-connected pieces of each label."""
    return [measure.label(labels == label, connectivity=1).max() for label in range(1, labels.max() + 1)]


def test_two_touching_disks_come_apart_where_they_touch() -> None:
    maps = disks((25, 28), (25, 48))
    assert connected_components(maps, threshold=0.5, min_area_px=10).max() == 1
    labels = marker_watershed(maps, **PARAMETERS)
    assert labels.shape == (50, 80)
    assert labels.dtype == np.int32
    assert np.unique(labels).tolist() == [0, 1, 2]
    assert np.array_equal(labels > 0, maps[..., 0] > 0.5)  # no foreground is lost
    columns = np.indices(labels.shape)[1]
    assert (labels[columns < 37] != 2).all()
    assert (labels[columns > 39] != 1).all()
    assert pieces_of(labels) == [1, 1]


def test_nuclei_are_cut_at_the_valley_of_the_distance_not_midway_between_their_markers() -> None:
    maps = np.zeros((1, 10, 3), np.float32)
    maps[..., 0] = 1
    maps[0, :, 1] = [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.3, 0.2, 0.9, 1.0]
    method = {**PARAMETERS, "marker_distance": 0.85, "min_marker_area_px": 1, "min_area_px": 1}
    assert marker_watershed(maps, **method).tolist()[0][:7] == [1] * 7
    assert marker_watershed(maps, **method).tolist()[0][8:] == [2] * 2


def test_the_distance_alone_or_the_border_alone_is_enough_to_part_them() -> None:
    maps = disks((25, 28), (25, 48))
    no_border = maps.copy()
    no_border[..., 2] = 0
    assert marker_watershed(no_border, **PARAMETERS).max() == 2
    flat = maps.copy()
    flat[..., 1] = maps[..., 0] > 0.5
    assert marker_watershed(flat, **PARAMETERS).max() == 2
    flat[..., 2] = 0
    assert marker_watershed(flat, **PARAMETERS).max() == 1


@pytest.mark.parametrize(
    ("parameter", "value", "count"),
    [("marker_distance", 0.05, 1), ("marker_distance", 0.2, 2), ("marker_border", 0.95, 1), ("marker_border", 0.85, 2)],
)
def test_the_parameters_of_the_markers_are_used(parameter: str, value: float, count: int) -> None:
    """Each parameter alone separates the disks, while the other is set to let them merge."""
    maps = disks((25, 28), (25, 48))
    lenient = {"marker_distance": 0.05} if parameter == "marker_border" else {"marker_border": 1.0}
    assert marker_watershed(maps, **{**PARAMETERS, **lenient, parameter: value}).max() == count


def test_a_piece_without_a_marker_is_one_nucleus() -> None:
    maps = disks((12, 15), (12, 60), (35, 40), radius=10)
    shallow = maps[..., 0] > 0.5
    shallow[:, :50] = False
    maps[..., 1][shallow] *= 0.3  # the disk on the right is not deep anywhere, and stays one
    labels = marker_watershed(maps, **PARAMETERS)
    assert labels.max() == 3
    np.testing.assert_array_equal(labels > 0, maps[..., 0] > 0.5)
    assert np.unique(labels[shallow]).size == 1
    assert pieces_of(labels) == [1, 1, 1]


def test_a_marker_that_is_too_small_does_not_count() -> None:
    maps = disks((25, 40), radius=15)
    maps[..., 2] = 0
    maps[25, 40, 2] = 0
    maps[18:33, 40, 2] = 1  # a false border divides the marker
    maps[..., 2][maps[..., 1] < 0.65] = 1  # and leaves little of it on either side
    sizes = np.bincount(measure.label((maps[..., 1] > 0.4) & (maps[..., 2] < 0.5), connectivity=1).ravel())[1:]
    assert sizes.size == 2
    both, none = int(sizes.min()), int(sizes.max()) + 1
    assert marker_watershed(maps, **{**PARAMETERS, "min_marker_area_px": both}).max() == 2
    merged = marker_watershed(maps, **{**PARAMETERS, "min_marker_area_px": none})
    assert merged.max() == 1
    np.testing.assert_array_equal(merged > 0, maps[..., 0] > 0.5)


def test_nuclei_that_are_too_small_are_dropped_and_the_others_renumbered() -> None:
    maps = np.maximum(disks((12, 15), radius=4), disks((30, 50), radius=10))
    small, large = sorted(np.bincount(marker_watershed(maps, **PARAMETERS).ravel())[1:])
    for min_area_px, count in ((small, 2), (small + 1, 1), (large, 1), (large + 1, 0)):
        labels = marker_watershed(maps, **{**PARAMETERS, "min_area_px": int(min_area_px)})
        assert np.unique(labels).tolist() == list(range(count + 1))


def test_nuclei_that_the_distance_nowhere_believes_in_are_dropped() -> None:
    maps = disks((25, 20), (25, 60))
    maps[:, :40, 1] *= 0.7
    for min_peak_distance, count in ((0.0, 2), (0.65, 2), (0.75, 1), (0.99, 1), (1.0, 0)):
        labels = marker_watershed(maps, **{**PARAMETERS, "min_peak_distance": min_peak_distance})
        assert np.unique(labels).tolist() == list(range(count + 1))


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_watershed_of_all_background_and_of_all_foreground(value: float) -> None:
    labels = marker_watershed(np.full((5, 7, 3), value, np.float32), **PARAMETERS)
    assert labels.shape == (5, 7)
    assert np.unique(labels).tolist() == [int(value)]


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1)])
def test_watershed_of_thin_images(shape: tuple[int, int]) -> None:
    maps = np.zeros((*shape, 3), np.float32)
    maps[..., :2] = 1
    assert np.unique(marker_watershed(maps, **{**PARAMETERS, "min_area_px": 1})).tolist() == [1]


@pytest.mark.parametrize("seed", range(4))
def test_watershed_of_noise_gives_numbered_pieces_and_keeps_the_foreground(seed: int) -> None:
    maps = np.random.default_rng(seed).random((60, 70, 3), dtype=np.float32)
    labels = marker_watershed(maps, **{**PARAMETERS, "min_marker_area_px": 1, "min_area_px": 1})
    assert labels.max() > 50
    assert np.unique(labels).tolist() == list(range(labels.max() + 1))
    assert set(pieces_of(labels)) == {1}
    np.testing.assert_array_equal(labels > 0, maps[..., 0] > 0.5)
    # No nucleus extends from one piece of the foreground into another.
    assert labels.max() >= measure.label(maps[..., 0] > 0.5, connectivity=1).max()


def flooded_everywhere(maps: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """`marker_watershed` by its definition: a watershed on every piece of the whole picture, with `PARAMETERS`."""
    foreground = maps[..., 0] > 0.5
    deep = measure.label(foreground & (maps[..., 1] > 0.4) & (maps[..., 2] < 0.5), connectivity=1)
    deep[np.bincount(deep.ravel())[deep] < 3] = 0
    pieces = measure.label(foreground, connectivity=1)
    seeds = np.where(np.isin(pieces, pieces[deep > 0]), deep, pieces + deep.max() * (pieces > 0))
    labels = np.zeros_like(seeds)
    for piece in range(1, pieces.max() + 1):
        labels += watershed(-maps[..., 1], np.where(taken, 0, seeds), mask=(pieces == piece) & ~taken)
    labels[np.bincount(labels.ravel())[labels] < 10] = 0
    numbers, inverse = np.unique(np.append(0, labels), return_inverse=True)
    return np.arange(numbers.size)[inverse[1:]].reshape(labels.shape)


@pytest.mark.parametrize("n_steps", [7, 1000])
@pytest.mark.parametrize("share", [0.5, 0.6, 0.9])
@pytest.mark.parametrize("is_partly_taken", [False, True])
def test_what_is_not_flooded_comes_out_as_if_it_were(share: float, n_steps: int, is_partly_taken: bool) -> None:
    """Also if the order of arrival divides a plateau, and if taken pixels cut a piece in two."""
    rng = np.random.default_rng(n_steps)
    several = 0
    for _ in range(6):
        smooth = np.dstack([ndimage.gaussian_filter(rng.standard_normal((90, 110)), sigma) for sigma in (4, 2, 2)])
        ranks = smooth.reshape(-1, 3).argsort(axis=0).argsort(axis=0).reshape(smooth.shape) / smooth[..., 0].size
        maps = (np.floor((ranks * [1, 1, 0.6] + [share - 0.5, 0, 0]) * n_steps) / n_steps).astype(np.float32)
        taken = np.zeros(maps.shape[:2], bool)
        taken[30:34, 10:] = taken[:70, 50:53] = is_partly_taken
        window = Window((slice(0, 90), slice(0, 110)), (False,) * 4, taken)
        labels = marker_watershed(maps, window, **PARAMETERS)
        np.testing.assert_array_equal(labels, flooded_everywhere(maps, taken))
        several += labels.max() > measure.label(labels > 0, connectivity=1).max()
    assert several == 6  # nuclei touch


def test_connected_components_look_at_the_foreground_alone() -> None:
    maps = np.random.default_rng(3).random((40, 50, 3), dtype=np.float32)
    of_all = connected_components(maps, threshold=0.5, min_area_px=2)
    np.testing.assert_array_equal(of_all, connected_components(maps[..., :1], threshold=0.5, min_area_px=2))


def test_the_watershed_of_a_card_is_called_with_its_arguments() -> None:
    maps = disks((25, 28), (25, 48))
    assert find_instances(maps, Step("marker_watershed", PARAMETERS)).max() == 2
    assert find_instances(maps, Step("marker_watershed", {**PARAMETERS, "min_area_px": 10_000})).max() == 0


def test_each_method_names_the_first_maps() -> None:
    assert METHODS["connected_components"].maps == MAPS[:1]
    assert METHODS["marker_watershed"].maps == MAPS
