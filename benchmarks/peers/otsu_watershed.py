"""A typical scikit-image pipeline: Otsu's threshold, and a watershed from the peaks of the distance to the edge."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.filters import gaussian, threshold_otsu
from skimage.morphology import remove_small_objects
from skimage.segmentation import watershed

from benchmarks.peers.harness import Pass, one_by_one, serve

SMOOTHING_PX = 1.0
MIN_AREA_PX = 20
PEAK_DISTANCE_PX = 7


def segment(grey: NDArray[np.uint8]) -> NDArray[Any]:
    """Label the nuclei of an (H, W) image, bright on dark or dark on bright."""
    smooth = gaussian(grey.astype(np.float32), SMOOTHING_PX, preserve_range=True)
    if smooth.min() == smooth.max():
        return np.zeros(grey.shape, np.int32)
    foreground = smooth > threshold_otsu(smooth)
    if foreground.mean() > 0.5:  # nuclei cover the smaller part
        foreground = ~foreground
    foreground = ndimage.binary_fill_holes(ndimage.binary_opening(foreground))
    foreground = remove_small_objects(foreground, max_size=MIN_AREA_PX - 1)
    distance = gaussian(ndimage.distance_transform_edt(foreground), SMOOTHING_PX)
    pieces, _ = ndimage.label(foreground)
    peaks = peak_local_max(distance, min_distance=PEAK_DISTANCE_PX, labels=pieces, exclude_border=False)
    markers = np.zeros(grey.shape, np.int32)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return np.asarray(watershed(-distance, markers, mask=foreground))


def load(_: Namespace) -> Pass:
    """Return the pass; there is nothing to load."""
    return one_by_one(segment)


if __name__ == "__main__":
    serve(load)
