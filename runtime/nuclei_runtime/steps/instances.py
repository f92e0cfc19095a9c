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

from nuclei_runtime.arrays import Labels, Maps
from nuclei_runtime.steps.preprocess import Step
from nuclei_runtime.steps.windows import CutNucleusError, Window, whole_image

MAPS = ("foreground", "distance", "border")
"""What the channels of a network's output may be, each in [0, 1]: the probability of nucleus; the distance to the
nucleus's own edge as a share of its largest; the probability that a nucleus touches another there."""


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
    return np.asarray(_numbers(own & (_areas(pieces, n_pieces) >= min_area_px))[pieces])


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
    window = window or whole_image(maps.shape)
    foreground = _Foreground(maps[..., 0] > threshold)
    values = foreground.pick(maps)
    is_deep = (values[:, 1] > marker_distance) & (values[:, 2] < marker_border)
    is_peak = values[:, 1] > min_peak_distance
    del values  # the watershed takes memory enough
    seeds = _seeds(foreground, is_deep, window, min_marker_area_px)
    n_seeds = int(seeds.max(initial=0))
    own = window.own_seeds(foreground.spread(seeds), n_seeds)
    grown = _grow(seeds, own, foreground, foreground.pick(window.taken), maps[..., 1])
    if (own & window.cut_pieces(grown, n_seeds)).any():
        raise CutNucleusError
    nuclei = foreground.pick(grown)
    believed = _areas(nuclei[is_peak], n_seeds) > 0
    return foreground.spread(_numbers(own & believed & (_areas(nuclei, n_seeds) >= min_area_px))[nuclei])


class _Foreground:
    """The pixels of a foreground: what is done for them alone is done for few of the pixels of most images.

    Parameters
    ----------
    is_inside : (H, W) ndarray of bool

    Attributes
    ----------
    piece : (n,) ndarray of int32
        In which 4-connected piece each of the pixels lies, row by row; from 1 on.
    n_pieces : int
    """

    def __init__(self, is_inside: NDArray[np.bool_]) -> None:
        from scipy import ndimage

        self.shape = is_inside.shape
        self.places = np.flatnonzero(is_inside)
        pieces, self.n_pieces = ndimage.label(is_inside)  # its default structure is the 4-neighbourhood
        self.piece = self.pick(pieces)

    def pick(self, picture: NDArray[Any]) -> NDArray[Any]:
        """Return what a picture of (H, W) or (H, W, C) shows at the pixels: (n,) or (n, C)."""
        return np.asarray(picture.reshape(-1, *picture.shape[2:]).take(self.places, axis=0))

    def spread(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the (H, W) picture that has (n,) values at the pixels and 0 elsewhere."""
        picture = np.zeros(self.shape, values.dtype)
        picture.reshape(-1)[self.places] = values
        return picture


def _seeds(foreground: _Foreground, is_deep: NDArray[np.bool_], window: Window, min_marker_area_px: int) -> Labels:
    """Number the markers, then the pieces of the foreground that have none; return the (n,) numbers, 0 between them."""
    from scipy import ndimage

    piece, n_pieces = foreground.piece, foreground.n_pieces
    deep, n_deep = ndimage.label(foreground.spread(is_deep))
    window.own_seeds(deep, n_deep)  # raises where one of its own is cut, which may be larger than it looks
    marker = foreground.pick(deep)
    large = _areas(marker, n_deep) >= min_marker_area_px
    large[0] = False
    marked = np.zeros(n_pieces + 1, bool)
    marked[piece[large[marker]]] = True
    # What looks small at a cut may be large: beside a marker it is kept, so that no other nucleus grows into it.
    of_markers = _numbers(large | window.cut_pieces(deep, n_deep))
    of_pieces = _numbers(~marked, first=int(of_markers.max()) + 1)
    return np.asarray(np.where(marked[piece], of_markers[marker], of_pieces[piece]))


def _grow(
    seeds: Labels, own: NDArray[np.bool_], foreground: _Foreground, taken: NDArray[np.bool_], distance: Maps
) -> Labels:
    """Let the seeds grow over the pieces of the foreground in which one of a window's own lies.

    A piece with a single seed becomes that seed's: only where several meet, or not all is free, is there anything to
    find out. Each such piece is flooded on its own, so that nothing depends on what else an image shows: where seeds
    are equally deep, `skimage.segmentation.watershed` begins with whichever its heap gives, which holds them all.

    Parameters
    ----------
    seeds : (n,) ndarray of int32
        The number of each pixel's seed, or 0.
    own : (n_seeds + 1,) ndarray of bool
        Which seeds are the window's.
    foreground : _Foreground
    taken : (n,) ndarray of bool
        Pixels into which nothing grows.
    distance : (H, W) ndarray of float32

    Returns
    -------
    (H, W) ndarray of int32
        The number of the seed that each pixel fell to, or 0.
    """
    from scipy import ndimage
    from skimage.segmentation import watershed

    piece, n_pieces = foreground.piece, foreground.n_pieces
    piece_of = np.zeros(own.size, np.intp)
    piece_of[seeds] = piece
    piece_of[0] = 0
    contended = np.bincount(piece_of, minlength=n_pieces + 1) > 1
    contended[piece[taken]] = True
    winner = np.zeros(n_pieces + 1, np.int32)
    winner[piece_of] = np.arange(own.size)
    winner[contended] = 0
    grown = foreground.spread(winner[piece])
    contended &= np.isin(np.arange(n_pieces + 1), piece_of[own])
    flooded = foreground.spread(np.where(contended[piece] & ~taken, piece, 0))
    seeds = foreground.spread(seeds)
    for number, box in enumerate(ndimage.find_objects(flooded), 1):
        if box is not None:
            mask = flooded[box] == number
            grown[box][mask] = watershed(-distance[box], seeds[box], mask=mask)[mask]
    return grown


def _areas(pieces: NDArray[np.integer[Any]], n_pieces: int) -> NDArray[np.intp]:
    """Return each piece's number of pixels, by number from 0."""
    return np.bincount(pieces.ravel(), minlength=n_pieces + 1)


def _numbers(kept: NDArray[np.bool_], first: int = 1) -> NDArray[np.int32]:
    """Return the new numbers, from `first` on, of the pieces that are kept, by number from 0; 0 for the others."""
    kept[0] = False
    return np.where(kept, np.cumsum(kept) + (first - 1), 0).astype(np.int32)


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
