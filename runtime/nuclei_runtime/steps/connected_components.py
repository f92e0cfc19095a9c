"""Finds nuclei as the connected pieces of the foreground."""

from __future__ import annotations

import numpy as np

from nuclei_runtime.arrays import Labels, Maps
from nuclei_runtime.steps.pieces import areas_of, number_kept
from nuclei_runtime.steps.step import MAPS, InstanceMethod, area, number
from nuclei_runtime.steps.windows import Window, whole_image


def connected_components(maps: Maps, window: Window | None = None, *, threshold: float, min_area_px: int) -> Labels:
    """Label each 4-connected piece of the foreground as one nucleus.

    Touching nuclei become one: this is a limit of the method.

    Parameters
    ----------
    maps : (H, W, 1 or more) ndarray of float32 in [0, 1]
        Only the foreground is used.
    window : Window, optional
        The part of an image that the maps show, if not the whole image: only the nuclei that belong to it are labelled.
    threshold : float
        Foreground is where the probability is above it.
    min_area_px : int
        Pieces with a smaller area are dropped.

    Returns
    -------
    (H, W) ndarray of int32
        0 background, 1..N in the order of a row-by-row scan.

    Raises
    ------
    CutNucleusError
        A nucleus that belongs to the window extends beyond it.
    """
    from scipy import ndimage

    pieces, n_pieces = ndimage.label(maps[..., 0] > threshold)  # its default structure is the 4-neighbourhood
    own = (window or whole_image(maps.shape)).own_seeds(pieces, n_pieces)
    return np.asarray(number_kept(own & (areas_of(pieces, n_pieces) >= min_area_px))[pieces])


CONNECTED_COMPONENTS = InstanceMethod(
    connected_components, MAPS[:1], {"threshold": number(0, 1), "min_area_px": area()}
)
