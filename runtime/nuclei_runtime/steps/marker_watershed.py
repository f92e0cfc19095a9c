"""Nuclei grown from markers by a watershed on the distance to their edges."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.arrays import Labels, Maps
from nuclei_runtime.steps.pieces import areas_of, number_kept
from nuclei_runtime.steps.step import MAPS, InstanceMethod, area, number
from nuclei_runtime.steps.windows import CutNucleusError, Window, whole_image


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
    believed = areas_of(nuclei[is_peak], n_seeds) > 0
    return foreground.spread(number_kept(own & believed & (areas_of(nuclei, n_seeds) >= min_area_px))[nuclei])


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
    large = areas_of(marker, n_deep) >= min_marker_area_px
    large[0] = False
    marked = np.zeros(n_pieces + 1, bool)
    marked[piece[large[marker]]] = True
    # What looks small at a cut may be large: beside a marker it is kept, so that no other nucleus grows into it.
    of_markers = number_kept(large | window.cut_pieces(deep, n_deep))
    of_pieces = number_kept(~marked, first=int(of_markers.max()) + 1)
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
    for index, box in enumerate(ndimage.find_objects(flooded), 1):
        if box is not None:
            mask = flooded[box] == index
            grown[box][mask] = watershed(-distance[box], seeds[box], mask=mask)[mask]
    return grown


MARKER_WATERSHED = InstanceMethod(
    marker_watershed,
    MAPS,
    {
        "threshold": number(0, 1),
        "marker_distance": number(0, 1),
        "marker_border": number(0, 1),
        "min_peak_distance": number(0, 1),
        "min_marker_area_px": area(),
        "min_area_px": area(),
    },
)
