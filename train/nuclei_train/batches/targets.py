"""Labels -> the maps that a network learns to separate touching nuclei with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nuclei_runtime.arrays import Labels
from nuclei_runtime.steps.step import MAPS

TARGETS = (*MAPS, "offset_row", "offset_column")
"""The channels of `target_maps`, in order. The offsets only help the network to tell nuclei apart while it learns."""

OFFSET_SCALE_PX = 16.0
"""Offsets are learned in units of so many pixels, about a nucleus's radius, so that they are of the order of 1."""

BORDER_REACH_PX = 1
"""How far the border map extends from the line at which two nuclei touch, beyond the pixels at that line."""


def target_maps(labels: Labels, valid: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
    """Return what stands for the nuclei of a crop.

    Parameters
    ----------
    labels : (H, W) ndarray of int32
        0 background, nuclei any positive numbers.
    valid : (H, W) ndarray of bool, optional
        False where the crop reaches beyond the image; without it the crop lies inside. A nucleus that the image's edge
        cuts does not end there, no more than at the crop's own edge: the network sees it mirrored.

    Returns
    -------
    (H, W, 5) ndarray of float32
        In the order of `TARGETS`: foreground; distance to the nucleus's own edge as a share of its largest, 0 outside;
        border, 1 where a nucleus touches another; offset to the nucleus's centroid, rows then columns, in units of
        `OFFSET_SCALE_PX`, 0 outside.
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

    # One distance transform for all nuclei: the pixels at a touching line count as outside, and as half a pixel in.
    free = inside & ~touching
    if valid is not None:
        free |= ~valid
    if free.all():  # one nucleus fills the crop: no edge in sight, from which the transform could measure
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
    """Return where a nucleus lies next to another, in eight directions, (H, W)."""
    inside = labels > 0
    highest = ndimage.maximum_filter(labels, 3)
    lowest = ndimage.minimum_filter(np.where(inside, labels, int(labels.max()) + 1), 3)
    return np.asarray(inside & (highest != lowest))
