"""Any image size through a network that takes any size: whole where it is small, else in overlapping tiles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NetworkFunction = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""(N, H, W, C) network inputs -> (N, H, W, maps) network outputs."""

Read = Callable[[slice, slice], NDArray[np.float32]]
"""Rows and columns of an image -> the (h, w, C) network input there."""


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

    @property
    def tile_px(self) -> int:
        """Side of a tile with its halo."""
        return self.core_px + 2 * self.halo_px


@dataclass(frozen=True)
class Span:
    """A tile along one axis: what it sees and, in the image, what is kept of it."""

    seen: slice
    kept: slice


def tile_side(length: int, tiling: Tiling) -> int:
    """Return how long tiles are along one axis of an image: all alike, and no longer than their number asks for."""
    padded = _up_to_multiple(length, tiling)
    n_tiles = _n_tiles(padded, tiling.tile_px, tiling.core_px)
    seen_twice = (n_tiles - 1) * 2 * tiling.halo_px
    return _up_to_multiple(-(-(padded + seen_twice) // n_tiles), tiling)


def tile_spans(length: int, tiling: Tiling) -> list[Span]:
    """Cut one axis of an image into tiles.

    All tiles are alike in size, so that an execution provider plans its memory, and searches its kernels, once: the
    last one is moved back to end with the image. What they see may end beyond the image, at the next multiple.
    """
    padded, side = _up_to_multiple(length, tiling), tile_side(length, tiling)
    step = max(side - 2 * tiling.halo_px, tiling.multiple_of_px)  # of a single tile there is none
    n_tiles = _n_tiles(padded, side, step)
    spans, kept = [], 0
    for index in range(n_tiles):
        start = min(index * step, padded - side)
        stop = length if index == n_tiles - 1 else start + side - tiling.halo_px
        spans.append(Span(slice(start, start + side), slice(kept, stop)))
        kept = stop
    return spans


def _n_tiles(padded: int, side: int, step: int) -> int:
    return 1 + max(0, -(-(padded - side) // step))


def _up_to_multiple(length: int, tiling: Tiling) -> int:
    return -(-length // tiling.multiple_of_px) * tiling.multiple_of_px


def run_tile(
    run: NetworkFunction, read: Read, shape: tuple[int, int], rows: Span, columns: Span
) -> NDArray[np.float32]:
    """Run a network on one tile of an image.

    Parameters
    ----------
    run : callable
        See `NetworkFunction`.
    read : callable
        See `Read`; called with what the tile sees.
    shape : (int, int)
        The image's height and width.
    rows, columns : Span

    Returns
    -------
    (h, w, maps) ndarray of float32
        The part that is kept.
    """
    tile = _read_mirrored(read, shape, rows.seen, columns.seen)
    maps: NDArray[np.float32] = run(np.ascontiguousarray(tile[np.newaxis]))[0]
    return maps[
        rows.kept.start - rows.seen.start : rows.kept.stop - rows.seen.start,
        columns.kept.start - columns.seen.start : columns.kept.stop - columns.seen.start,
    ]


def run_tiled(run: NetworkFunction, image: NDArray[np.float32], tiling: Tiling) -> NDArray[np.float32]:
    """Run a network over an image in memory, tile by tile.

    Parameters
    ----------
    run : callable
        See `NetworkFunction`; called with one tile at a time.
    image : (H, W, C) ndarray of float32
    tiling : Tiling

    Returns
    -------
    (H, W, maps) ndarray of float32
    """
    height, width = image.shape[:2]
    result: NDArray[np.float32] | None = None
    for rows, columns in _tiles(height, width, tiling):
        maps = run_tile(run, lambda rows, columns: image[rows, columns], (height, width), rows, columns)
        if result is None:
            result = np.empty((height, width, maps.shape[-1]), np.float32)
        result[rows.kept, columns.kept] = maps
    assert result is not None  # an image has pixels: `check_image`
    return result


def _tiles(height: int, width: int, tiling: Tiling) -> Iterator[tuple[Span, Span]]:
    for rows in tile_spans(height, tiling):
        for columns in tile_spans(width, tiling):
            yield rows, columns


def _read_mirrored(read: Read, shape: tuple[int, int], rows: slice, columns: slice) -> NDArray[np.float32]:
    """Read a region that may go on below and right of the image, where the image is mirrored.

    What goes on is less than a multiple of a tiling: never more than a tile sees of an image that has several.
    """
    beyond = [max(span.stop - length, 0) for span, length in zip((rows, columns), shape, strict=True)]
    region = read(slice(rows.start, rows.stop - beyond[0]), slice(columns.start, columns.stop - beyond[1]))
    if not any(beyond):
        return region
    # There and back again, as often as it takes for a thin image.
    return np.pad(region, ((0, beyond[0]), (0, beyond[1]), (0, 0)), mode="symmetric")
