"""Maps that a network gives -> labelled nuclei.

The method and its parameters stand in the model card under ``postprocessing``; `METHODS` is the list of those
that exist.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.preprocess import Step

Labels = NDArray[np.int32]


MAPS = ("foreground", "distance", "border")
"""What the channels of a network's output may be, each in [0, 1]: the probability of nucleus; the distance to the
nucleus's own edge as a share of its largest; the probability that a nucleus touches another there."""

Maps = NDArray[np.float32]
"""(H, W, M), in the order of `MAPS`."""


def connected_components(maps: Maps, *, threshold: float, min_area_px: int) -> Labels:
    """Label each 4-connected piece of the foreground as one nucleus.

    Touching nuclei become one: that is this method's limit, not an error.

    Parameters
    ----------
    maps : (H, W, 1 or more) ndarray of float32 in [0, 1]
        Of which the foreground is used.
    threshold : float
        Foreground is where the probability is above it.
    min_area_px : int
        Smaller pieces are dropped.

    Returns
    -------
    (H, W) ndarray of int32
        0 background, 1..N in the order in which a row-by-row scan meets them.
    """
    from scipy import ndimage

    pieces, _ = ndimage.label(maps[..., 0] > threshold)  # its default structure is the 4-neighbourhood
    return _drop_small(pieces, min_area_px)


def marker_watershed(
    maps: Maps,
    *,
    threshold: float,
    marker_distance: float,
    marker_border: float,
    min_marker_area_px: int,
    min_area_px: int,
) -> Labels:
    """Give each nucleus a marker and let the markers grow over the foreground.

    A marker is a 4-connected piece of what lies deep in a nucleus and not on a border between two. A piece of
    foreground without any marker is a nucleus of its own. The markers grow by watershed (Beucher and Meyer 1993,
    `skimage.segmentation.watershed`) on the distance.

    Parameters
    ----------
    maps : (H, W, 3) ndarray of float32 in [0, 1]
        All of `MAPS`.
    threshold : float
        Foreground is where its probability is above it.
    marker_distance, marker_border : float
        A marker is where the distance is above the one and the border below the other.
    min_marker_area_px, min_area_px : int
        Smaller markers, and smaller nuclei, are dropped.

    Returns
    -------
    (H, W) ndarray of int32
        0 background, 1..N.
    """
    from scipy import ndimage
    from skimage.segmentation import watershed

    foreground = maps[..., 0] > threshold
    deep = foreground & (maps[..., 1] > marker_distance) & (maps[..., 2] < marker_border)
    markers = _drop_small(ndimage.label(deep)[0], min_marker_area_px)
    pieces, n_pieces = ndimage.label(foreground)
    marked = np.zeros(n_pieces + 1, bool)
    marked[pieces[markers > 0]] = True
    unmarked = foreground & ~marked[pieces]
    markers = np.where(unmarked, pieces + markers.max(), markers)
    grown = watershed(-maps[..., 1], markers, mask=foreground)
    return _drop_small(np.asarray(grown), min_area_px)


def _drop_small(pieces: NDArray[np.integer[Any]], min_area_px: int) -> Labels:
    """Drop labels of less than an area and number the others 1..N in their order."""
    areas = np.bincount(pieces.ravel())
    kept = areas >= min_area_px
    kept[0] = False
    renumbered = np.where(kept, np.cumsum(kept), 0).astype(np.int32)
    return np.asarray(renumbered[pieces])


@dataclass(frozen=True)
class Method:
    """A way to find nuclei.

    Attributes
    ----------
    find : callable
        From (H, W, M) maps and the keyword arguments of the model card to labels.
    maps : tuple of str
        What the network must give, in order.
    """

    find: Callable[..., Labels]
    maps: tuple[str, ...]


METHODS = {
    "connected_components": Method(connected_components, MAPS[:1]),
    "marker_watershed": Method(marker_watershed, MAPS),
}


def find_instances(maps: Maps, method: Step) -> Labels:
    """Label the nuclei with the method that a model card names."""
    return METHODS[method.id].find(maps, **method.kwargs)
