"""The parameters of the instances, chosen on the validation images."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

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

    Of combinations that are equally good the first is kept, which has the lowest thresholds.

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
    tried: list[tuple[Step, dict[str, float]]] = []
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
        tried.append((method, {"mean AP": float(ap.mean()), "AP@0.5": float(ap[0])}))
    tried.sort(key=lambda one: -one[1]["mean AP"])
    return tried[0][0], [{**method.kwargs, **scores} for method, scores in tried]
