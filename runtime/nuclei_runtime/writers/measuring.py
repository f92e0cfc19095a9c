"""Measures the nuclei of a plane block by block, and the cells that they grow into."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.arrays import Labels
from nuclei_runtime.readers.plane import Plane
from nuclei_runtime.segmentation.blocks import Block
from nuclei_runtime.segmentation.scratch_raster import ScratchRaster
from nuclei_runtime.steps.cells import Growth
from nuclei_runtime.steps.measure import Measures
from nuclei_runtime.steps.nuclei_table import measure_nuclei

Window = tuple[slice, slice]


@dataclass(frozen=True, eq=False)
class Cells:
    """The cells of a plane, computed where they are read from the label image of its nuclei.

    Parameters
    ----------
    labels : ScratchRaster
        The nuclei of the whole plane.
    left_out : ScratchRaster
        The pixels of nuclei that were left out, into which no cell grows.
    shape : tuple of int
        Height and width of the plane.
    growth : Growth
    """

    labels: ScratchRaster
    left_out: ScratchRaster
    shape: tuple[int, ...]
    growth: Growth

    def around(self, rows: slice, columns: slice) -> Window:
        """Return a window with all pixels that the cells of its nuclei can have."""
        margin = self.growth.margin_px
        row, column = (
            slice(max(part.start - margin, 0), min(part.stop + margin, length))
            for part, length in zip((rows, columns), self.shape, strict=False)
        )
        return row, column

    def read(self, rows: slice, columns: slice) -> Labels:
        """Return the cells in a window, which may reach beyond the plane, where there are none."""
        window = self.around(rows, columns)
        grown = np.maximum(self.growth.grow(np.where(self.left_out.read(*window), -1, self.labels.read(*window))), 0)
        cells = np.zeros((rows.stop - rows.start, columns.stop - columns.start), grown.dtype)
        inside = tuple(
            slice(part.start, min(part.stop, length)) for part, length in zip((rows, columns), self.shape, strict=False)
        )
        source, target = (
            tuple(slice(part.start - start, part.stop - start) for part, start in zip(inside, starts, strict=True))
            for starts in ([part.start for part in window], [rows.start, columns.start])
        )
        cells[target] = grown[source]
        return cells


def measured_blocks(
    plane: Plane, blocks: Iterable[Block], labels: ScratchRaster, cells: Cells | None
) -> Iterator[tuple[Block, Measures]]:
    """Yield each block with the measurements of its nuclei.

    With cells, the blocks come only when the last nucleus is found, and are as large as their cells: what a cell is
    depends on the nuclei around it.

    Parameters
    ----------
    plane : Plane
    blocks : iterable of Block
        Of the whole plane.
    labels : ScratchRaster
        Empty; the nuclei are written into it.
    cells : Cells, optional
        Of `labels`.
    """
    seen: list[tuple[Block, NDArray[np.int32]]] = []
    for block in blocks:
        is_nucleus = block.labels > 0
        labels.write(block.rows, block.columns, block.labels, is_nucleus)
        if cells is None:
            yield block, _measure(plane, block)
        else:
            nothing = np.zeros((0, 0), np.int32)
            if block.left_out is not None:
                cells.left_out.write(block.rows, block.columns, block.left_out, block.left_out)
            numbers = np.unique(block.labels[is_nucleus])
            seen.append((replace(block, image=nothing, labels=nothing, left_out=None), numbers))
    for block, numbers in seen if cells is not None else ():
        assert cells is not None
        rows, columns = cells.around(block.rows, block.columns)
        own, grown = (
            np.where(np.isin(found, numbers), found, 0)
            for found in (labels.read(rows, columns), cells.read(rows, columns))
        )
        whole = replace(block, rows=rows, columns=columns, image=plane.read(rows, columns), labels=own)
        yield whole, _measure(plane, whole, grown)


def _measure(plane: Plane, block: Block, cells: Labels | None = None) -> Measures:
    return measure_nuclei(
        block.image,
        block.labels,
        pixel_size_um=plane.pixel_size_um,
        channels={one.name: partial(one.read, block.rows, block.columns) for one in plane.measured},
        cells=cells,
        origin=(block.rows.start, block.columns.start),
        shape=plane.shape,
        scores=block.scores,
    )
