"""The search for the parameters of instance segmentation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.metrics import match, mean_image_ap
from nuclei_runtime.steps.instances import find_instances
from nuclei_runtime.steps.step import Step
from nuclei_train.batches.targets import target_maps
from nuclei_train.recipes.search import (
    FOREGROUND_THRESHOLDS,
    MARKER_BORDERS,
    MARKER_DISTANCES,
    MIN_MARKER_AREAS_PX,
    MIN_PEAK_DISTANCES,
    search_parameters,
)

COMBINATIONS = math.prod(
    len(values)
    for values in (FOREGROUND_THRESHOLDS, MARKER_DISTANCES, MARKER_BORDERS, MIN_MARKER_AREAS_PX, MIN_PEAK_DISTANCES)
)


@pytest.fixture(scope="module")
def truths() -> list[np.ndarray]:
    return [fluorescence_field(seed, height=96, width=96, n_nuclei=12)[1] for seed in (3, 8)]


def demanding_maps(labels: np.ndarray) -> np.ndarray:
    """Maps that give the truth only with a high threshold and a low limit for borders."""
    maps = target_maps(labels)[..., :3].copy()
    rows, columns = np.indices(labels.shape)
    # Around the nuclei is a haze that only the highest threshold excludes.
    maps[..., 0] = np.where(labels > 0, 0.95, np.where((rows + columns) % 2, 0.55, 0.58))
    # The distance does not help, and borders are faint.
    maps[..., 1] = np.where(labels > 0, 0.9, 0.0)
    maps[..., 2] *= 0.4
    return maps.astype(np.float32)


def test_the_best_of_all_combinations_is_kept(truths: list[np.ndarray]) -> None:
    maps = [demanding_maps(labels) for labels in truths]
    method, search = search_parameters(maps, truths, 10)
    assert method.id == "marker_watershed"
    assert method.kwargs["threshold"] == max(FOREGROUND_THRESHOLDS)
    assert method.kwargs["marker_border"] == min(MARKER_BORDERS)
    assert method.kwargs["min_area_px"] == 10
    # Nothing distinguishes the other parameters: the first of each is kept.
    assert method.kwargs["marker_distance"] == MARKER_DISTANCES[0]
    assert method.kwargs["min_marker_area_px"] == MIN_MARKER_AREAS_PX[0]
    assert method.kwargs["min_peak_distance"] == MIN_PEAK_DISTANCES[0]
    assert search[0]["AP@0.5"] > 0.9
    assert search[0]["mean AP"] > search[-1]["mean AP"] + 0.3


def test_each_combination_is_recorded_with_its_scores(truths: list[np.ndarray]) -> None:
    maps = [demanding_maps(labels) for labels in truths]
    method, search = search_parameters(maps, truths, 10)
    assert len(search) == COMBINATIONS
    names = list(method.kwargs)
    assert len({tuple(row[name] for name in names) for row in search}) == COMBINATIONS
    assert {name: search[0][name] for name in names} == method.kwargs
    assert all(set(row) == {*names, "mean AP", "AP@0.5"} for row in search)
    scores = [row["mean AP"] for row in search]
    assert scores == sorted(scores, reverse=True)
    for row in search[:: COMBINATIONS // 5]:
        tried = Step("marker_watershed", {name: row[name] for name in names})
        ap = mean_image_ap(
            [match(labels, find_instances(one, tried)) for one, labels in zip(maps, truths, strict=True)]
        )
        assert row["mean AP"] == pytest.approx(ap.mean())
        assert row["AP@0.5"] == pytest.approx(ap[0])


def test_images_and_truths_must_be_as_many(truths: list[np.ndarray]) -> None:
    with pytest.raises(ValueError, match="maps of 1 images but 2 truths"):
        search_parameters([demanding_maps(truths[0])], truths, 10)
