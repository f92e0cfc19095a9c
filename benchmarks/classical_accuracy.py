"""Score a classical pipeline on the same sets, with the same matching, as nuclei-evaluate scores a model.

    python benchmarks/classical_accuracy.py DATA

The pipeline is what scikit-image's users would write: Gaussian filter, Otsu's threshold, the rarer side as
foreground, opening, hole filling, distance transform, local maxima, watershed.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.filters import gaussian, threshold_otsu
from skimage.segmentation import watershed

from nuclei_runtime.metrics import match, mean_image_ap, pooled_ap
from nuclei_runtime.preprocess import percentile_normalisation
from nuclei_runtime.reading import Image
from nuclei_train.dsb2018 import open_data
from nuclei_train.evaluation_sets import find_sets
from nuclei_train.split_table import read_split_table

SMOOTHING_PX = 1.0
MIN_AREA_PX = 20
PEAK_DISTANCE_PX = 7
SETS = ("val", "test", "stardist_test")


def segment(image: Image) -> NDArray[Any]:
    """Label nuclei in an (H, W), (H, W, 3) or (H, W, 4) image; return (H, W) integers."""
    colours = image[..., :3].mean(axis=-1) if image.ndim == 3 else image.astype(np.float64)
    grey = gaussian(percentile_normalisation(colours, lower=0.0, upper=100.0), SMOOTHING_PX)
    if grey.max() <= grey.min():
        return np.zeros(grey.shape, np.int32)
    foreground = grey > threshold_otsu(grey)
    if foreground.mean() > 0.5:
        foreground = ~foreground
    pieces, _ = ndimage.label(ndimage.binary_fill_holes(ndimage.binary_opening(foreground)))
    foreground = (np.bincount(pieces.ravel()) >= MIN_AREA_PX)[pieces] & (pieces > 0)
    distance = gaussian(ndimage.distance_transform_edt(foreground), 1.0)
    peaks = peak_local_max(
        distance, min_distance=PEAK_DISTANCE_PX, labels=ndimage.label(foreground)[0], exclude_border=False
    )
    markers = np.zeros(grey.shape, np.int32)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return np.asarray(watershed(-distance, markers, mask=foreground))


def main(data: Path) -> None:
    """Print a Markdown table, a row a set and one a modality."""
    table = read_split_table(data)
    print("| set | images | mean AP | AP@0.5, mean over images | AP@0.5, pooled |")
    print("|---|---|---|---|---|")
    for found in find_sets(open_data(data), table, {}, SETS):
        rows: dict[str, list[Any]] = {}
        for sample in found.samples:
            image = sample.read_image()
            matching = match(found.read_truth(sample, image), segment(image))
            modality = table.modality.get(sample.image_id, "unknown") if table else "unknown"
            for key in (found.name, f"{found.name}, {modality}"):
                rows.setdefault(key, []).append(matching)
        for key, matchings in rows.items():
            per_image = mean_image_ap(matchings)
            scores = (per_image.mean(), per_image[0], pooled_ap(matchings)[0])
            print(f"| {key} | {len(matchings)} | " + " | ".join(f"{score:.3f}" for score in scores) + " |")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
