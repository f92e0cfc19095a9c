"""Runs a network that takes any size on an image: on the whole image if it is small, otherwise in overlapping tiles."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NetworkFunction = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Takes (N, H, W, C) network inputs and returns (N, H, W, maps) network outputs."""

Read = Callable[[slice, slice], NDArray[np.float32]]
"""Takes rows and columns of an image and returns the (h, w, C) network input there."""


@dataclass(frozen=True)
class Tiling:
    """How an image is cut into tiles.

    The result of a tile is kept without its halo. If the halo is at least as large as the receptive field of the
    network, and all cuts are at multiples of its stride, the kept parts equal the result for the whole image.

    Attributes
    ----------
    core_px : int
        Side of the part of a tile that is kept, a multiple of `multiple_of_px`.
    halo_px : int
        Margin that a tile sees beyond its core where the image continues; a multiple of `multiple_of_px`.
    multiple_of_px : int
        The network takes heights and widths that are multiples of this; images are extended by mirroring.
    """

    core_px: int
    halo_px: int
    multiple_of_px: int

    @property
    def tile_px(self) -> int:
        """Side of a tile including its halo."""
        return self.core_px + 2 * self.halo_px


@dataclass(frozen=True)
class Span:
    """A tile along one axis: the range that it sees and the range of the image for which its result is kept."""

    seen: slice
    kept: slice


def tile_side(length: int, tiling: Tiling) -> int:
    """Return the side of the tiles along one axis of an image: equal for all, and as short as their number allows."""
    padded = _up_to_multiple(length, tiling)
    n_tiles = _n_tiles(padded, tiling.tile_px, tiling.core_px)
    seen_twice = (n_tiles - 1) * 2 * tiling.halo_px
    return _up_to_multiple(-(-(padded + seen_twice) // n_tiles), tiling)


def computed_px(shape: tuple[int, ...], tiling: Tiling) -> int:
    """Return how many pixels a network sees of an image in all its tiles, halos included."""
    return math.prod(n_tiles * side for n_tiles, side, _ in (_cut(length, tiling) for length in shape))


def tile_spans(length: int, tiling: Tiling) -> list[Span]:
    """Cut one axis of an image into tiles.

    All tiles have the same size, so that an execution provider plans its memory and selects its kernels only once. The
    last tile is moved back to end with the image. What tiles see may end beyond the image, at the next multiple.
    """
    padded = _up_to_multiple(length, tiling)
    n_tiles, side, step = _cut(length, tiling)
    spans, kept = [], 0
    for index in range(n_tiles):
        start = min(index * step, padded - side)
        stop = length if index == n_tiles - 1 else start + side - tiling.halo_px
        spans.append(Span(slice(start, start + side), slice(kept, stop)))
        kept = stop
    return spans


def _cut(length: int, tiling: Tiling) -> tuple[int, int, int]:
    """Return the number of the tiles along one axis, their side, and the distance from one to the next."""
    side = tile_side(length, tiling)
    step = max(side - 2 * tiling.halo_px, tiling.multiple_of_px)  # irrelevant for a single tile
    return _n_tiles(_up_to_multiple(length, tiling), side, step), side, step


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
        See `Read`; called with the range that the tile sees.
    shape : (int, int)
        The image's height and width.
    rows, columns : Span

    Returns
    -------
    (h, w, maps) ndarray of float32
        The part that is kept.
    """
    return run_seen(run, read(*seen_within(shape, rows, columns)), rows, columns)


def seen_within(shape: tuple[int, ...], rows: Span, columns: Span) -> tuple[slice, slice]:
    """Return the part of an image that a tile sees: what it sees may end beyond the image, below and on the right."""
    height, width = shape[:2]
    return slice(rows.seen.start, min(rows.seen.stop, height)), slice(columns.seen.start, min(columns.seen.stop, width))


def run_seen(run: NetworkFunction, region: NDArray[np.float32], rows: Span, columns: Span) -> NDArray[np.float32]:
    """Run a network on the part of an image that a tile sees; see `run_tile` and `seen_within`."""
    tile = _mirrored(region, rows.seen, columns.seen)
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
    assert result is not None  # `check_image` ensures that an image has pixels
    return result


def _tiles(height: int, width: int, tiling: Tiling) -> Iterator[tuple[Span, Span]]:
    for rows in tile_spans(height, tiling):
        for columns in tile_spans(width, tiling):
            yield rows, columns


def _mirrored(region: NDArray[np.float32], rows: slice, columns: slice) -> NDArray[np.float32]:
    """Extend what a tile sees of an image to what lies below and right of it, where the image is mirrored.

    It extends by less than the multiple of a tiling, so never by more than a tile sees of an image that has several.
    """
    beyond = [span.stop - span.start - length for span, length in zip((rows, columns), region.shape, strict=False)]
    if not any(beyond):
        return region
    # np.pad mirrors repeatedly where the image is thinner than the extension.
    return np.pad(region, ((0, beyond[0]), (0, beyond[1]), (0, 0)), mode="symmetric")
