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
from nuclei_runtime.windows import CutNucleusError, Window, whole_image

Labels = NDArray[np.int32]


MAPS = ("foreground", "distance", "border")
"""What the channels of a network's output may be, each in [0, 1]: the probability of nucleus; the distance to the
nucleus's own edge as a share of its largest; the probability that a nucleus touches another there."""

Maps = NDArray[np.float32]
"""(H, W, M), in the order of `MAPS`."""


def connected_components(maps: Maps, window: Window | None = None, *, threshold: float, min_area_px: int) -> Labels:
    """Label each 4-connected piece of the foreground as one nucleus.

    Touching nuclei become one: that is this method's limit, not an error.

    Parameters
    ----------
    maps : (H, W, 1 or more) ndarray of float32 in [0, 1]
        Of which the foreground is used.
    window : Window, optional
        What of an image the maps are, if not all of it: its own nuclei are labelled.
    threshold : float
        Foreground is where the probability is above it.
    min_area_px : int
        Smaller pieces are dropped.

    Returns
    -------
    (H, W) ndarray of int32
        0 background, 1..N in the order in which a row-by-row scan meets them.

    Raises
    ------
    CutNucleusError
        The window does not hold a nucleus of its own wholly.
    """
    from scipy import ndimage

    pieces, n_pieces = ndimage.label(maps[..., 0] > threshold)  # its default structure is the 4-neighbourhood
    own = (window or whole_image(maps.shape)).own_seeds(pieces, n_pieces)
    return _number(pieces, own & (_areas(pieces, n_pieces) >= min_area_px))


def marker_watershed(
    maps: Maps,
    window: Window | None = None,
    *,
    threshold: float,
    marker_distance: float,
    marker_border: float,
    min_peak_distance: float,
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
    window : Window, optional
        What of an image the maps are, if not all of it: its own nuclei are labelled.
    threshold : float
        Foreground is where its probability is above it.
    marker_distance, marker_border : float
        A marker is where the distance is above the one and the border below the other.
    min_peak_distance : float
        Nuclei in which the distance is nowhere above it are dropped: every nucleus has a pixel where it is 1, so a
        network that has found none does not believe in the nucleus.
    min_marker_area_px, min_area_px : int
        Smaller markers, and smaller nuclei, are dropped.

    Returns
    -------
    (H, W) ndarray of int32
        0 background, 1..N.

    Raises
    ------
    CutNucleusError
        The window does not hold a nucleus of its own wholly.
    """
    from scipy import ndimage

    window = window or whole_image(maps.shape)
    foreground = maps[..., 0] > threshold
    deep, n_deep = ndimage.label(foreground & (maps[..., 1] > marker_distance) & (maps[..., 2] < marker_border))
    window.own_seeds(deep, n_deep)  # raises where one of its own is cut, which may be larger than it looks
    large = _areas(deep, n_deep) >= min_marker_area_px
    pieces, n_pieces = ndimage.label(foreground)
    marked = np.zeros(n_pieces + 1, bool)
    marked[pieces[large[deep] & (deep > 0)]] = True
    # What looks small at a cut may be large: beside a marker it is kept, so that no other nucleus grows into it.
    seeds = _number(deep, large | window.cut_pieces(deep, n_deep))
    n_markers = int(seeds.max())
    seeds = np.where(foreground & ~marked[pieces], pieces + n_markers, seeds)
    n_seeds = n_markers + n_pieces
    own = window.own_seeds(seeds, n_seeds)
    if not own.any():
        return np.zeros_like(seeds)
    grown = _grow(seeds, own, pieces, n_pieces, window.taken, maps[..., 1])
    if (own & window.cut_pieces(grown, n_seeds)).any():
        raise CutNucleusError
    has_peak = _areas(grown[maps[..., 1] > min_peak_distance], n_seeds) > 0
    return _number(grown, own & has_peak & (_areas(grown, n_seeds) >= min_area_px))


def _grow(
    seeds: Labels,
    own: NDArray[np.bool_],
    pieces: Labels,
    n_pieces: int,
    taken: NDArray[np.bool_],
    distance: NDArray[np.float32],
) -> Labels:
    """Let seeds grow over the pieces of foreground in which one of a window's own lies, but not over what is taken.

    A piece with one seed, of which nothing is taken, is that seed's: only the others need a watershed.
    """
    from skimage.segmentation import watershed

    places = np.flatnonzero(seeds)
    piece_of = np.zeros(own.size, np.intp)
    piece_of[seeds.ravel()[places]] = pieces.ravel()[places]
    reached = np.zeros(n_pieces + 1, bool)
    reached[piece_of[own]] = True
    shared = np.bincount(piece_of, minlength=n_pieces + 1) > 1
    if taken.any():
        shared[pieces[taken]] = True
    only_seed = np.zeros(n_pieces + 1, np.int32)
    only_seed[piece_of] = np.arange(own.size)
    only_seed[shared | ~reached] = 0
    shared &= reached
    shared[0] = only_seed[0] = 0
    grown: Labels = only_seed[pieces]
    if shared.any():
        free = shared[pieces] & ~taken
        rows, columns = (np.flatnonzero(free.any(axis=axis)) for axis in (1, 0))
        if rows.size:
            box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
            mask = free[box]
            flooded = watershed(-distance[box], np.where(mask, seeds[box], 0), mask=mask)
            np.copyto(grown[box], flooded, where=mask)
    return grown


def _areas(pieces: NDArray[np.integer[Any]], n_pieces: int) -> NDArray[np.intp]:
    """Return each piece's number of pixels, by number from 0."""
    return np.bincount(pieces.ravel(), minlength=n_pieces + 1)


def _number(pieces: NDArray[np.integer[Any]], kept: NDArray[np.bool_]) -> Labels:
    """Keep some pieces, by number from 0, and number them 1..N in their order."""
    kept[0] = False
    renumbered = np.where(kept, np.cumsum(kept), 0).astype(np.int32)
    return np.asarray(renumbered[pieces])


@dataclass(frozen=True)
class Method:
    """A way to find nuclei.

    Attributes
    ----------
    find : callable
        From (H, W, M) maps, a window and the keyword arguments of the model card to labels.
    maps : tuple of str
        What the network must give, in order.
    """

    find: Callable[..., Labels]
    maps: tuple[str, ...]


METHODS = {
    "connected_components": Method(connected_components, MAPS[:1]),
    "marker_watershed": Method(marker_watershed, MAPS),
}


def find_instances(maps: Maps, method: Step, window: Window | None = None) -> Labels:
    """Label the nuclei with the method that a model card names.

    Raises
    ------
    CutNucleusError
        The window does not hold a nucleus of its own wholly; never without a window.
    """
    return METHODS[method.id].find(maps, window, **method.kwargs)
