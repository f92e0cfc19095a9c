"""The parameters of the instances, chosen on the validation images."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

from nuclei_runtime.instances import Labels, Maps, find_instances
from nuclei_runtime.metrics import match, mean_image_ap
from nuclei_runtime.preprocess import Step

THRESHOLDS = (0.4, 0.5, 0.6)
MARKER_DISTANCES = (0.4, 0.5, 0.6, 0.7)
MARKER_BORDERS = (0.3, 0.5, 0.7)
MIN_MARKER_AREAS_PX = (3, 8)


def search_parameters(
    maps: Sequence[Maps], truths: Sequence[Labels], min_area_px: int
) -> tuple[Step, list[dict[str, float]]]:
    """Try all combinations and keep the one of the highest mean AP (Kaggle's average over images).

    Parameters
    ----------
    maps : sequence of (H, W, 3) ndarray
        `nuclei_runtime.instances.MAPS` of each validation image.
    truths : sequence of (H, W) ndarray of int32
    min_area_px : int
        Of a nucleus; not searched for.

    Returns
    -------
    method : Step
        For the model card.
    search : list of dict
        Each combination with its mean AP and AP@0.5, the best first.
    """
    tried: list[dict[str, Any]] = []
    for threshold, distance, border, marker_area in product(
        THRESHOLDS, MARKER_DISTANCES, MARKER_BORDERS, MIN_MARKER_AREAS_PX
    ):
        kwargs = {
            "threshold": threshold,
            "marker_distance": distance,
            "marker_border": border,
            "min_marker_area_px": marker_area,
            "min_area_px": min_area_px,
        }
        method = Step("marker_watershed", kwargs)
        ap = mean_image_ap([match(truth, find_instances(one, method)) for one, truth in zip(maps, truths, strict=True)])
        tried.append({**kwargs, "mean AP": float(ap.mean()), "AP@0.5": float(ap[0])})
    tried.sort(key=lambda row: -row["mean AP"])
    best = {key: value for key, value in tried[0].items() if key not in ("mean AP", "AP@0.5")}
    return Step("marker_watershed", best), tried
