"""Labels -> the target maps from which a network learns to separate touching nuclei."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nuclei_runtime.arrays import Labels
from nuclei_runtime.steps.step import MAPS

TARGETS = (*MAPS, "offset_row", "offset_column")
"""The channels of `target_maps`, in order. The offsets only help the network to learn to distinguish nuclei."""

OFFSET_SCALE_PX = 16.0
"""The unit in which offsets are learned, about the radius of a nucleus, so that they are of the order of 1."""

BORDER_REACH_PX = 1
"""How far the border map extends beyond the pixels along the line where two nuclei touch."""


def target_maps(labels: Labels, valid: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
    """Return the target maps for the nuclei in a crop.

    Parameters
    ----------
    labels : (H, W) ndarray of int32
        0 background, nuclei any positive numbers.
    valid : (H, W) ndarray of bool, optional
        False where the crop extends beyond the image; without it, the crop is inside. A nucleus cut by the edge of the
        image does not end there, just as it does not end at the edge of the crop: the network sees it mirrored.

    Returns
    -------
    (H, W, 5) ndarray of float32
        In the order of `TARGETS`: foreground; distance to the edge of the nucleus, relative to the largest distance in
        that nucleus, 0 outside; border, 1 where one nucleus touches another; offset to the centroid of the nucleus,
        rows then columns, in units of `OFFSET_SCALE_PX`, 0 outside.
    """
    height, width = labels.shape
    maps = np.zeros((height, width, len(TARGETS)), np.float32)
    inside = labels > 0
    if not inside.any():
        return maps
    maps[..., 0] = inside

    n_labels = int(labels.max()) + 1
    touching = touching_pixels(labels)
    maps[..., 2] = ndimage.maximum_filter(touching, 2 * BORDER_REACH_PX + 1) & inside

    # One distance transform for all nuclei: pixels along a touching line count as outside, half a pixel away.
    free = inside & ~touching
    if valid is not None:
        free |= ~valid
    if free.all():  # one nucleus fills the crop: there is no edge from which to measure
        distance = np.ones(labels.shape)
    else:
        distance = ndimage.distance_transform_edt(np.pad(free, 1, mode="edge"))[1:-1, 1:-1]
    distance = np.where(inside, distance + 0.5, 0.0)
    flat = labels.ravel()
    largest = np.full(n_labels, 1e-6)
    np.maximum.at(largest, flat, distance.ravel())
    maps[..., 1] = np.where(inside, distance / largest[labels], 0.0)

    area = np.maximum(np.bincount(flat, minlength=n_labels), 1)
    rows, columns = np.indices(labels.shape, dtype=np.float64)
    for channel, coordinate in ((3, rows), (4, columns)):
        centre = np.bincount(flat, weights=coordinate.ravel(), minlength=n_labels) / area
        maps[..., channel] = np.where(inside, (centre[labels] - coordinate) / OFFSET_SCALE_PX, 0.0)
    return maps


def touching_pixels(labels: Labels) -> NDArray[np.bool_]:
    """Return the pixels of a nucleus that touch another nucleus, with 8-connectivity, (H, W)."""
    inside = labels > 0
    highest = ndimage.maximum_filter(labels, 3)
    lowest = ndimage.minimum_filter(np.where(inside, labels, int(labels.max()) + 1), 3)
    return np.asarray(inside & (highest != lowest))
