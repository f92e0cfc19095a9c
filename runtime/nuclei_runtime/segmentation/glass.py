"""Finds the glass of a slide at low resolution, where nothing has to be looked for.

Glass lets all light through. A part of a colour picture is glass if no mean of 8 x 8 pixels in it has an optical
density above 0.05 in any colour, relative to the brightest parts of the picture (Ruifrok and Johnston 2001 define
densities in this way). Macenko et al. (ISBI 2009) leave out all below 0.15 as transparent; the lower limit keeps pale
tissue and single cells. For that reason it is not Otsu's threshold either, which lies between pale and dark tissue
where little glass is to be seen. In the H&E slide CMU-1, hardly anything lies between 0.01, the glass, and 0.15.

A picture on a dark ground, such as fluorescence that was saved in colour, has no glass by this definition.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from nuclei_runtime.arrays import COLOURS, Image
from nuclei_runtime.readers.plane import GLASS_SQUARE_PX, Plane
from nuclei_runtime.segmentation.plane_input import REGION_PX, regions
from nuclei_runtime.steps.percentiles import ranks_of

MEAN_PX = 8
"""Side of the squares whose means are looked at, in pixels of the plane: smaller than a nucleus."""
MAX_DENSITY = 0.05
"""Optical density up to which a mean may be glass: 11 % of the light are missing."""
WHITE_PERCENT = 99.9
"""Percentile of the means that stands for the light without a slide."""
CELL_PX = 256
"""Side of the cells that hold glass or not. Around each one that does not, the neighbours are kept too: a margin of
several nuclei."""


def without_glass(plane: Plane) -> Plane:
    """Return a large colour plane with its glass marked, which is read once at low resolution; any other as it is.

    Where a plane shows nothing but glass, the darkest square is not marked, so that something is left to look at.

    Raises
    ------
    ImageError
        The plane cannot be read.
    """
    if not plane.is_large or len(plane.shape) == 2 or np.dtype(plane.dtype) not in (np.uint8, np.uint16):
        return plane
    darkest, white = _survey(plane)
    darkness = (darkest / white).min(axis=-1)
    is_tissue = sliding_window_view(np.pad(darkness < 10**-MAX_DENSITY, 1), (3, 3)).any(axis=(2, 3))
    is_tissue.flat[darkness.argmin()] = True
    n = GLASS_SQUARE_PX // CELL_PX
    padded = np.pad(is_tissue, [(0, -length % n) for length in is_tissue.shape])
    squares = padded.reshape(padded.shape[0] // n, n, padded.shape[1] // n, n)
    glass: NDArray[np.bool_] = np.logical_not(squares.any(axis=(1, 3)))
    return replace(plane, glass=glass)


def _survey(plane: Plane) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Look at the means of a plane.

    Returns
    -------
    darkest : (rows, columns, 3) ndarray
        The lowest mean in each cell.
    white : (3,) ndarray
        The mean that stands for white, at least 1.
    """
    fine_enough = [level for level in plane.coarser if plane.shape[0] < 1.5 * MEAN_PX * level.shape[0]]
    level = fine_enough[-1] if fine_enough else plane
    side = max(round(MEAN_PX * level.shape[0] / plane.shape[0]), 1)
    values = np.iinfo(np.dtype(plane.dtype))
    counts = np.zeros((len(COLOURS), values.max + 1), np.int64)
    n_rows, n_columns = (-(-length // CELL_PX) for length in plane.shape[:2])
    darkest = np.full((n_rows, n_columns, len(COLOURS)), float(values.max))
    for rows, columns in regions(level.shape, REGION_PX):
        means = _means(level.read(rows, columns)[..., : len(COLOURS)], side)
        for colour in range(len(COLOURS)):
            counts[colour] += np.bincount(means[..., colour].ravel(), minlength=values.max + 1)
        cells = [
            ((part.start + side * (np.arange(n) + 0.5)) * length / level_length // CELL_PX).astype(int)
            for part, n, length, level_length in zip(
                (rows, columns), means.shape, plane.shape, level.shape, strict=False
            )
        ]
        firsts = [np.flatnonzero(np.diff(one, prepend=-1)) for one in cells]
        lowest = np.minimum.reduceat(np.minimum.reduceat(means, firsts[0], axis=0), firsts[1], axis=1)
        there = np.ix_(
            *(one[first].clip(max=n - 1) for one, first, n in zip(cells, firsts, darkest.shape, strict=False))
        )
        darkest[there] = np.minimum(darkest[there], lowest)
    (rank,) = ranks_of(int(counts[0].sum()), WHITE_PERCENT)
    white = [np.searchsorted(one, rank, side="right") for one in np.cumsum(counts, axis=1)]
    return darkest, np.maximum(white, 1).astype(np.float64)


def _means(image: Image, side: int) -> Image:
    """Return the means of squares of pixels, rounded down; at the edges, the last pixels count several times."""
    if side == 1:
        return image
    padded = np.pad(image, [(0, -image.shape[0] % side), (0, -image.shape[1] % side), (0, 0)], mode="edge")
    sums = np.add.reduce(padded.reshape(-1, side, *padded.shape[1:]), axis=1, dtype=np.uint32)
    sums = np.add.reduce(sums.reshape(len(sums), -1, side, image.shape[2]), axis=2)
    means: Image = (sums // side**2).astype(image.dtype)
    return means
