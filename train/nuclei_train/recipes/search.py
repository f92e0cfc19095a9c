"""The search for the parameters of instance segmentation on the validation images."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np

from nuclei_runtime.arrays import Labels, Maps
from nuclei_runtime.metrics import Matching, match, mean_image_ap
from nuclei_runtime.resources import cpu_count
from nuclei_runtime.steps.instances import find_instances
from nuclei_runtime.steps.step import Step

FOREGROUND_THRESHOLDS = (0.4, 0.5, 0.6)
MARKER_DISTANCES = (0.4, 0.5, 0.6)
MARKER_BORDERS = (0.3, 0.5, 0.7, 0.9)
MIN_MARKER_AREAS_PX = (8,)
MIN_PEAK_DISTANCES = (0.0, 0.6)
"""Higher values gain a little on validation images, which resemble the training images, but lose nuclei in a stain
that was not in the training data, where a network is less certain. On scikit-image's photograph of a brown stain, 0.7
kept 19 of the 58 nuclei that 0.6 found when this was chosen; with the bundled model it keeps 63 of 69."""


def search_parameters(
    maps: Sequence[Maps],
    truths: Sequence[Labels],
    min_area_px: int,
    marker_borders: Sequence[float] = MARKER_BORDERS,
) -> tuple[Step, list[dict[str, float]]]:
    """Try all combinations and choose the one with the highest mean AP (Kaggle's average over images).

    Of equally good combinations the first is chosen, which has the lowest thresholds.

    Parameters
    ----------
    maps : sequence of (H, W, 3) ndarray
        `nuclei_runtime.steps.step.MAPS` of each validation image.
    truths : sequence of (H, W) ndarray of int32
    min_area_px : int
        Smallest area of a nucleus; not searched for.
    marker_borders : sequence of float
        The limits of the border map to try.

    Returns
    -------
    postprocessing : Step
        For the model card.
    search : list of dict
        Each combination with its mean AP and AP@0.5, best first.
    """
    methods = [
        Step(
            "marker_watershed",
            {
                "threshold": threshold,
                "marker_distance": distance,
                "marker_border": border,
                "min_marker_area_px": marker_area,
                "min_peak_distance": peak,
                "min_area_px": min_area_px,
            },
        )
        for threshold, distance, border, marker_area, peak in product(
            FOREGROUND_THRESHOLDS, MARKER_DISTANCES, marker_borders, MIN_MARKER_AREAS_PX, MIN_PEAK_DISTANCES
        )
    ]
    if len(maps) != len(truths):
        raise ValueError(f"found the maps of {len(maps)} images but {len(truths)} truths; expected equal numbers")
    with ThreadPoolExecutor(cpu_count()) as threads:
        of_images = list(threads.map(lambda one, truth: _match_all(one, truth, methods), maps, truths))
    tried: list[tuple[Step, dict[str, float]]] = []
    for method, matchings in zip(methods, zip(*of_images, strict=True), strict=True):
        ap = mean_image_ap(matchings)
        tried.append((method, {"mean AP": float(ap.mean()), "AP@0.5": float(ap[0])}))
    tried.sort(key=lambda one: -one[1]["mean AP"])
    return tried[0][0], [{**method.kwargs, **scores} for method, scores in tried]


def _match_all(maps: Maps, truth: Labels, methods: Sequence[Step]) -> list[Matching]:
    """Match the nuclei that each method finds in one image."""
    # Neighbouring limits, and markers that differ in a few small pieces, often give the same nuclei.
    matchings: list[Matching] = []
    previous: Labels | None = None
    for method in methods:
        labels = find_instances(maps, method)
        if previous is None or not np.array_equal(labels, previous):
            matchings.append(match(truth, labels))
        else:
            matchings.append(matchings[-1])
        previous = labels
    return matchings
