"""The maps that a network gives for a plane: tile by tile, each pixel once, and only where they are asked for."""

from __future__ import annotations

import sys
from types import TracebackType

import numpy as np

from nuclei_runtime.arrays import Image, Maps
from nuclei_runtime.readers.plane import plane_of
from nuclei_runtime.segmentation.glass import without_glass
from nuclei_runtime.segmentation.network import Network
from nuclei_runtime.segmentation.plane_input import input_in
from nuclei_runtime.segmentation.plane_tiles import Cut, OwnTiles, Tile, Tiles
from nuclei_runtime.segmentation.scratch_raster import ScratchRaster
from nuclei_runtime.steps.contrast import Contrast
from nuclei_runtime.steps.preprocess import prepare
from nuclei_runtime.steps.resize import resize


class PlaneMaps:
    """The maps of a plane, computed where they are read, from the top down. Use it in a ``with`` statement.

    Parameters
    ----------
    cut : Cut
    tiles : Tiles
        Computes the tiles of the cut.
    n_maps : int
        How many of the maps to keep: the first ones.
    memory_bytes : int
        How much of the maps to keep in memory; the rest is kept in a temporary file.
    """

    def __init__(self, cut: Cut, tiles: Tiles, n_maps: int, *, memory_bytes: int) -> None:
        self._cut, self._tiles, self._n_maps = cut, tiles, n_maps
        self._done: set[Tile] = set()
        self._raster = ScratchRaster(np.float32, n_maps, memory_bytes=memory_bytes)

    def __enter__(self) -> PlaneMaps:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._raster.__exit__(None, None, None)

    def read(self, rows: slice, columns: slice) -> Maps:
        """Return the maps of a window whose rows have not been dropped.

        Raises
        ------
        ImageError
            The plane cannot be read, or the network fails on it.
        """
        for needed in self._cut.touching(rows, columns):
            for tile, maps in self._tiles.until(needed) if needed not in self._done else ():
                self._raster.write(tile.rows.kept, tile.columns.kept, maps[..., : self._n_maps])
                self._done.add(tile)
        return self._raster.read(rows, columns)

    def drop_rows(self, stop: int) -> None:
        """Forget the rows before `stop`."""
        self._raster.drop_rows(stop)


def image_maps(image: Image, network: Network) -> Maps:
    """Return all the maps of an image in memory, at its own size.

    Parameters
    ----------
    image : (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) ndarray
    network : Network
        One for any size, or one of fixed size, which sees the whole image resized. Its view is used as it is.

    Returns
    -------
    (H, W, M) ndarray of float32 in [0, 1]

    Raises
    ------
    ImageError
        The image cannot be segmented, or the network fails on it.
    """
    shape = image.shape[0], image.shape[1]
    if network.tiling is None:
        return resized_maps(image, network)[0]
    n_maps = len(network.card.output.maps)
    plane = plane_of(image)
    if network.skips_glass:
        plane = without_glass(plane)
    plane_input = input_in(plane, network.card.preprocessing, network.view.stain)
    tiles = OwnTiles(plane_input.read, network, shape)
    with PlaneMaps(Cut(shape, network.tiling), tiles, n_maps, memory_bytes=sys.maxsize) as found:
        return found.read(slice(0, shape[0]), slice(0, shape[1]))


def resized_maps(image: Image, network: Network) -> tuple[Maps, Contrast | None]:
    """Return the maps that a network of fixed size gives for an image, and the contrast that the image was given.

    Raises
    ------
    ImageError
        See `image_maps`.
    """
    prepared, contrast = prepare(image, network.card.preprocessing)
    (maps,) = network.run(prepared[np.newaxis])
    # Bilinear interpolation stays between its neighbours, so the maps need no clipping.
    return resize(maps, height=image.shape[0], width=image.shape[1]), contrast
