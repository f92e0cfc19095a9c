"""A plane -> the maps that a network of any size gives of it, tile by tile, each pixel once."""

from __future__ import annotations

from types import TracebackType

import numpy as np

from nuclei_runtime.arrays import Maps
from nuclei_runtime.errors import ImageValueError
from nuclei_runtime.model.card import ModelCard
from nuclei_runtime.readers.plane import Plane
from nuclei_runtime.segmentation.plane_input import PlaneInput
from nuclei_runtime.segmentation.spool import Spool
from nuclei_runtime.steps.instances import METHODS
from nuclei_runtime.steps.tiling import NetworkFunction, Tiling, run_tile, tile_spans


class PlaneMaps:
    """The maps of a plane, made as far down as they are asked for. To be used in a ``with`` statement.

    Only those maps are kept that the model's way to find nuclei uses.

    Parameters
    ----------
    plane : Plane
    card : ModelCard
        Of a network of any size.
    run : NetworkFunction
        The network.
    tiling : Tiling
        Any, whose halo and multiple are the segmenter's: the maps are the same.
    memory_bytes : int
        How much of the maps may wait in memory; the rest does so in a temporary file.

    Raises
    ------
    ImageError
        The plane cannot be read.
    """

    def __init__(
        self, plane: Plane, card: ModelCard, run: NetworkFunction, tiling: Tiling, *, memory_bytes: int
    ) -> None:
        self._shape = (plane.shape[0], plane.shape[1])
        self._run = run
        self._n_maps = len(METHODS[card.postprocessing.id].maps)
        self._input = PlaneInput(plane, card.preprocessing)
        self._columns = tile_spans(self._shape[1], tiling)
        self._rows_to_come = tile_spans(self._shape[0], tiling)
        self._spool = Spool(np.float32, self._n_maps, memory_bytes=memory_bytes)

    def __enter__(self) -> PlaneMaps:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._spool.__exit__(None, None, None)

    def read(self, rows: slice, columns: slice) -> Maps:
        """Return the maps of a window whose rows have not been dropped.

        Raises
        ------
        ImageError
            The plane cannot be read, or the network gives no finite number.
        """
        while self._rows_to_come and self._rows_to_come[0].kept.start < rows.stop:
            self._run_row()
        return self._spool.read(rows, columns)

    def drop_rows(self, stop: int) -> None:
        """Forget the rows before `stop`."""
        self._spool.drop_rows(stop)

    def _run_row(self) -> None:
        rows = self._rows_to_come.pop(0)
        for columns in self._columns:
            maps = run_tile(self._run, self._input.read, self._shape, rows, columns)[..., : self._n_maps]
            if not np.isfinite(maps).all():  # every comparison with NaN is false: no nucleus, in silence
                raise ImageValueError("the model gives no finite probability for it; export the model anew")
            self._spool.write(rows.kept, columns.kept, maps)
