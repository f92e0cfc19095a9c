"""The maps that a network gives for a plane: tile by tile, each pixel once, and only where they are asked for."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import TracebackType

import numpy as np

from nuclei_runtime.arrays import Image, Maps
from nuclei_runtime.readers.plane import plane_of
from nuclei_runtime.segmentation.network import Network
from nuclei_runtime.segmentation.plane_input import PlaneInput, shown_plane
from nuclei_runtime.segmentation.scratch_raster import ScratchRaster
from nuclei_runtime.steps.contrast import Contrast
from nuclei_runtime.steps.preprocess import prepare
from nuclei_runtime.steps.resize import resize
from nuclei_runtime.steps.tiling import Read, Span, Tiling, run_tile, tile_spans


class PlaneMaps:
    """The maps of a plane, computed where they are read, from the top down. Use it in a ``with`` statement.

    Parameters
    ----------
    shape : (int, int)
        Height and width of the plane.
    read : callable
        See `nuclei_runtime.steps.tiling.Read`: the network's input, as `PlaneInput.read` gives it.
    network : Network
        One that accepts images of any size.
    tiling : Tiling
        Any with the network's halo and multiple: the maps do not depend on the size of the tiles.
    n_maps : int
        How many of the maps to keep: the first ones.
    memory_bytes : int
        How much of the maps to keep in memory; the rest is kept in a temporary file.
    """

    def __init__(
        self, shape: tuple[int, int], read: Read, network: Network, tiling: Tiling, n_maps: int, *, memory_bytes: int
    ) -> None:
        self._shape = shape
        self._read = read
        self._network = network
        self._n_maps = n_maps
        self._columns = tile_spans(self._shape[1], tiling)
        self._rows = tile_spans(self._shape[0], tiling)
        self._done: set[tuple[int, int]] = set()
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
        for i, tile_rows in _touching(self._rows, rows):
            for j, tile_columns in _touching(self._columns, columns):
                if (i, j) not in self._done:
                    maps = run_tile(self._network.run, self._read, self._shape, tile_rows, tile_columns)
                    self._raster.write(tile_rows.kept, tile_columns.kept, maps[..., : self._n_maps])
                    self._done.add((i, j))
        return self._raster.read(rows, columns)

    def drop_rows(self, stop: int) -> None:
        """Forget the rows before `stop`."""
        self._raster.drop_rows(stop)


def _touching(spans: Sequence[Span], window: slice) -> list[tuple[int, Span]]:
    """Return the tiles along one axis whose results lie in a window, with their numbers."""
    return [(i, one) for i, one in enumerate(spans) if one.kept.start < window.stop and window.start < one.kept.stop]


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
    height, width = image.shape[:2]
    if network.tiling is None:
        return resized_maps(image, network)[0]
    n_maps = len(network.card.output.maps)
    plane_input = PlaneInput(shown_plane(plane_of(image), network.view.stain), network.card.preprocessing)
    with PlaneMaps(
        (height, width), plane_input.read, network, network.tiling, n_maps, memory_bytes=sys.maxsize
    ) as found:
        return found.read(slice(0, height), slice(0, width))


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
