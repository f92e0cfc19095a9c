"""Any image size through a network that takes any size: whole where it is small, else in overlapping tiles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""(N, H, W, C) network inputs -> (N, H, W, maps) network outputs."""


@dataclass(frozen=True)
class Tiling:
    """How an image is cut.

    A tile's result is kept without its halo. With a halo no smaller than the network's receptive field, and all
    cuts at multiples of the network's stride, the kept parts equal the result of the whole image.

    Attributes
    ----------
    core_px : int
        Side of the part of a tile that is kept, a multiple of `multiple_of_px`.
    halo_px : int
        What a tile sees beyond its core on each side, where the image goes on; a multiple of `multiple_of_px`.
    multiple_of_px : int
        The network takes heights and widths that are multiples of it: images are mirrored up to one.
    """

    core_px: int
    halo_px: int
    multiple_of_px: int


def run_tiled(run: Run, image: NDArray[np.float32], tiling: Tiling) -> NDArray[np.float32]:
    """Run a network over an image, tile by tile.

    Parameters
    ----------
    run : callable
        See `Run`; called with one tile at a time.
    image : (H, W, C) ndarray of float32
    tiling : Tiling

    Returns
    -------
    (H, W, maps) ndarray of float32
    """
    height, width = image.shape[:2]
    padded = _pad(image, tiling.multiple_of_px)
    result: NDArray[np.float32] | None = None
    for rows, core_rows in _spans(padded.shape[0], tiling):
        for columns, core_columns in _spans(padded.shape[1], tiling):
            maps = run(np.ascontiguousarray(padded[np.newaxis, rows, columns]))[0]
            if result is None:
                result = np.empty((*padded.shape[:2], maps.shape[-1]), np.float32)
            inner_rows = slice(core_rows.start - rows.start, core_rows.stop - rows.start)
            inner_columns = slice(core_columns.start - columns.start, core_columns.stop - columns.start)
            result[core_rows, core_columns] = maps[inner_rows, inner_columns]
    assert result is not None  # an image has pixels: `check_image`
    return result[:height, :width]


def _spans(length: int, tiling: Tiling) -> Iterator[tuple[slice, slice]]:
    """Yield what each tile reads and what is kept of it, along one axis."""
    for start in range(0, length, tiling.core_px):
        stop = min(start + tiling.core_px, length)
        yield slice(max(start - tiling.halo_px, 0), min(stop + tiling.halo_px, length)), slice(start, stop)


def _pad(image: NDArray[np.float32], multiple_of_px: int) -> NDArray[np.float32]:
    """Mirror the image at its lower and right edge up to the next multiple."""
    pads = [(0, -length % multiple_of_px) for length in image.shape[:2]]
    # "symmetric" also works where an image is thinner than what it has to grow by.
    return np.pad(image, (*pads, (0, 0)), mode="symmetric") if any(after for _, after in pads) else image
