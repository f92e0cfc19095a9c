"""Foreground probability -> labelled nuclei.

The method and its parameters stand in the model card under ``postprocessing``; `METHODS` is the list of those
that exist.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.preprocess import Step

Labels = NDArray[np.int32]


def connected_components(probability: NDArray[np.float32], *, threshold: float, min_area_px: int) -> Labels:
    """Label each 4-connected piece of the foreground as one nucleus.

    Touching nuclei become one: that is this method's limit, not an error.

    Parameters
    ----------
    probability : (H, W) ndarray of float32 in [0, 1]
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

    pieces, n_pieces = ndimage.label(probability > threshold)  # its default structure is the 4-neighbourhood
    areas = np.bincount(pieces.ravel(), minlength=n_pieces + 1)
    kept = areas >= min_area_px
    kept[0] = False
    renumbered = np.where(kept, np.cumsum(kept), 0).astype(np.int32)
    return np.asarray(renumbered[pieces])


METHODS: dict[str, Callable[..., Labels]] = {"connected_components": connected_components}


def find_instances(probability: NDArray[np.float32], method: Step) -> Labels:
    """Label the nuclei with the method that a model card names."""
    kwargs: dict[str, Any] = method.kwargs
    return METHODS[method.id](probability, **kwargs)
