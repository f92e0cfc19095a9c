"""Finds nuclei by growing markers with a watershed on the distance to the edges."""

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

    A marker is a 4-connected piece of pixels that are deep inside a nucleus and not on a border between two. A piece of
    foreground without a marker is one nucleus. The markers grow by watershed (Beucher and Meyer 1993,
    `skimage.segmentation.watershed`) on the distance.

    Parameters
    ----------
    maps : (H, W, 3) ndarray of float32 in [0, 1]
        All of `MAPS`.
    window : Window, optional
        The part of an image that the maps show, if not the whole image: only the nuclei that belong to it are labelled.
    threshold : float
        Pixels with a higher probability are foreground.
    marker_distance, marker_border : float
        Markers are where the distance is above the former and the border probability below the latter.
    min_peak_distance : float
        Nuclei in which the distance is nowhere above this are dropped: in a true nucleus it reaches 1, so a network
        that predicts much less is not convinced of the nucleus.
    min_marker_area_px, min_area_px : int
        Markers and nuclei with smaller areas are dropped.

    Returns
    -------
    (H, W) ndarray of int32
        0 background, 1..N.

    Raises
    ------
    CutNucleusError
        A nucleus that belongs to the window extends beyond it.
    """
    window = window or whole_image(maps.shape)
    foreground = _Foreground(maps[..., 0] > threshold)
    values = foreground.pick(maps)
    is_deep = (values[:, 1] > marker_distance) & (values[:, 2] < marker_border)
    is_peak = values[:, 1] > min_peak_distance
    del values  # the watershed needs the memory
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
    """The pixels of a foreground, so that work is done only for them: in most images they are few.

    Parameters
    ----------
    is_inside : (H, W) ndarray of bool

    Attributes
    ----------
    piece : (n,) ndarray of int32
        Number, from 1, of the 4-connected piece of each pixel, row by row.
    n_pieces : int
    """

    def __init__(self, is_inside: NDArray[np.bool_]) -> None:
        from scipy import ndimage

        self.shape = is_inside.shape
        self.places = np.flatnonzero(is_inside)
        pieces, self.n_pieces = ndimage.label(is_inside)  # its default structure is the 4-neighbourhood
        self.piece = self.pick(pieces)

    def pick(self, picture: NDArray[Any]) -> NDArray[Any]:
        """Return the values of an (H, W) or (H, W, C) picture at the pixels, (n,) or (n, C)."""
        return np.asarray(picture.reshape(-1, *picture.shape[2:]).take(self.places, axis=0))

    def spread(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return an (H, W) picture with the given (n,) values at the pixels and 0 elsewhere."""
        picture = np.zeros(self.shape, values.dtype)
        picture.reshape(-1)[self.places] = values
        return picture


def _seeds(foreground: _Foreground, is_deep: NDArray[np.bool_], window: Window, min_marker_area_px: int) -> Labels:
    """Number the markers, then the pieces of foreground without one; return the number of each pixel, (n,), or 0."""
    from scipy import ndimage

    piece, n_pieces = foreground.piece, foreground.n_pieces
    deep, n_deep = ndimage.label(foreground.spread(is_deep))
    window.own_seeds(deep, n_deep)  # raises if one that belongs to the window is cut: it may be larger than it looks
    marker = foreground.pick(deep)
    large = areas_of(marker, n_deep) >= min_marker_area_px
    large[0] = False
    marked = np.zeros(n_pieces + 1, bool)
    marked[piece[large[marker]]] = True
    # A piece that is cut may be larger than it looks: it is kept next to a marker, so that no nucleus grows into it.
    of_markers = number_kept(large | window.cut_pieces(deep, n_deep))
    of_pieces = number_kept(~marked, first=int(of_markers.max()) + 1)
    return np.asarray(np.where(marked[piece], of_markers[marker], of_pieces[piece]))


def _grow(
    seeds: Labels, own: NDArray[np.bool_], foreground: _Foreground, taken: NDArray[np.bool_], distance: Maps
) -> Labels:
    """Let the seeds grow over the pieces of foreground that hold a seed of the window.

    A piece with a single seed goes to that seed. The watershed is needed only where several seeds share a piece, or
    where part of it is taken. Each such piece is flooded separately, so that the result does not depend on the rest of
    the image: among equally deep seeds, `skimage.segmentation.watershed` starts with whichever one its heap returns,
    and the heap holds the seeds of all pieces.

    Parameters
    ----------
    seeds : (n,) ndarray of int32
        Number of the seed of each pixel, or 0.
    own : (n_seeds + 1,) ndarray of bool
        Whether each seed belongs to the window.
    foreground : _Foreground
    taken : (n,) ndarray of bool
        Pixels into which no seed may grow.
    distance : (H, W) ndarray of float32

    Returns
    -------
    (H, W) ndarray of int32
        Number of the seed to which each pixel belongs, or 0.
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
