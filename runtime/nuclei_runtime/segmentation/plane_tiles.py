"""The tiles of a plane: who computes them, in which order, and what they are computed from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from nuclei_runtime.arrays import Image, Maps
from nuclei_runtime.segmentation.network import Network
from nuclei_runtime.segmentation.plane_input import Applied, PlaneInput, prepared
from nuclei_runtime.steps.tiling import Read, Span, Tiling, run_seen, run_tile, seen_within, tile_spans
from nuclei_runtime.steps.view import View


@dataclass(frozen=True)
class Tile:
    """A tile of a plane.

    Attributes
    ----------
    index : (int, int)
        Which one it is, from the top and from the left.
    rows, columns : Span
    """

    index: tuple[int, int]
    rows: Span = field(compare=False)
    columns: Span = field(compare=False)


class Cut:
    """A plane, cut into tiles.

    Parameters
    ----------
    shape : (int, int)
        Height and width of the plane.
    tiling : Tiling
        Any with the network's halo and multiple: the maps do not depend on the size of the tiles.
    """

    def __init__(self, shape: tuple[int, int], tiling: Tiling) -> None:
        self.shape = shape
        self._rows, self._columns = (list(enumerate(tile_spans(length, tiling))) for length in shape)

    def touching(self, rows: slice, columns: slice) -> list[Tile]:
        """Return the tiles whose results lie in a window, row by row."""
        along_rows, along_columns = (
            [(i, one) for i, one in spans if one.kept.start < window.stop and window.start < one.kept.stop]
            for spans, window in ((self._rows, rows), (self._columns, columns))
        )
        return [Tile((i, j), row, column) for i, row in along_rows for j, column in along_columns]

    def in_order(self, windows: Iterable[tuple[slice, slice]]) -> list[Tile]:
        """Return the tiles that some windows need, in the order in which they are needed."""
        return list(dict.fromkeys(tile for window in windows for tile in self.touching(*window)))


@dataclass(frozen=True, eq=False)
class TileTask:
    """All that the maps of a tile depend on, beside the loaded model. It can be pickled.

    Attributes
    ----------
    pixels : ndarray
        Of the plane as it is shown, where the tile sees it.
    applied : tuple of callable
        See `PlaneInput.applied`.
    tile : Tile
    view : View
    n_maps : int
        How many of the maps are wanted: the first ones.
    n_bytes : int
        How much memory it takes.
    """

    pixels: Image
    applied: tuple[Applied, ...]
    tile: Tile
    view: View
    n_maps: int
    n_bytes: int

    def maps(self, network: Network) -> Maps:
        """Return the maps of the part of the tile that is kept.

        Parameters
        ----------
        network : Network
            Made from the same model and options as the one that chose the view.

        Raises
        ------
        ImageError
            See `Network.run`.
        """
        network = replace(network, view=self.view, others=())
        maps = run_seen(network.run, prepared(self.pixels, self.applied), self.tile.rows, self.tile.columns)
        return np.ascontiguousarray(maps[..., : self.n_maps])


@dataclass(frozen=True, eq=False)
class TaskMaker:
    """Makes the tasks of a plane's tiles; the attributes are those of `TileTask`."""

    plane_input: PlaneInput
    view: View
    n_maps: int
    n_bytes: int

    def __call__(self, tile: Tile) -> TileTask:
        """Read what a tile sees.

        Raises
        ------
        ImageError
            The plane cannot be read.
        SegmentationCancelledError
            The segmentation was cancelled.
        """
        pixels = self.plane_input.pixels(*seen_within(self.plane_input.shape, tile.rows, tile.columns))
        return TileTask(pixels, self.plane_input.applied, tile, self.view, self.n_maps, self.n_bytes)


class Tiles(Protocol):
    """Computes the tiles of a plane."""

    def until(self, tile: Tile) -> Iterator[tuple[Tile, Maps]]:
        """Yield tiles with the maps of their kept parts, the last of them the one that is asked for.

        Raises
        ------
        ImageError
            The plane cannot be read, or the network fails on it.
        """


@dataclass(frozen=True, eq=False)
class OwnTiles:
    """Tiles that are computed here, each when it is asked for.

    Attributes
    ----------
    read : callable
        See `nuclei_runtime.steps.tiling.Read`: the network's input, as `PlaneInput.read` gives it.
    network : Network
        One that accepts images of any size.
    shape : (int, int)
        Height and width of the plane.
    """

    read: Read
    network: Network
    shape: tuple[int, int]

    def until(self, tile: Tile) -> Iterator[tuple[Tile, Maps]]:
        """Yield the tile with its maps."""
        yield tile, run_tile(self.network.run, self.read, self.shape, tile.rows, tile.columns)


class Helpers(Protocol):
    """Others that can compute tiles of a plane; see `nuclei_runtime.runs.cluster_tiles`."""

    def tiles(
        self, plan: Sequence[Tile], task_of: Callable[[Tile], TileTask], network: Network
    ) -> AbstractContextManager[Tiles]:
        """Have them compute tiles ahead.

        Parameters
        ----------
        plan : sequence of Tile
            Those that will be asked for, in this order. Others may be asked for too.
        task_of : callable
            See `TaskMaker`.
        network : Network
            For those that are computed here.
        """
