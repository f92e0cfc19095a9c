"""The polygons of a block's nuclei, in the coordinates of the plane, for the outputs that hold outlines."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.segmentation.blocks import Block
from nuclei_runtime.steps.measure import Measures
from nuclei_runtime.steps.outlines import trace_polygons

_BOX = ("bbox_top_px", "bbox_left_px", "bbox_bottom_px", "bbox_right_px")


def block_outlines(block: Block, table: Measures) -> Iterator[tuple[int, list[list[NDArray[np.intp]]]]]:
    """Yield the number of each nucleus of a block, in order, and its polygons.

    Parameters
    ----------
    block : Block
    table : Measures
        Of its nuclei.

    Yields
    ------
    label : int
    polygons : list of list of (K, 2) ndarray
        The (row, column) of the corners in the plane, as `nuclei_runtime.steps.outlines.trace_polygons` returns them.
    """
    origin = np.array((block.rows.start, block.columns.start))
    boxes = np.stack([table[name] for name in _BOX], axis=1).astype(np.intp) - np.tile(origin, 2)
    for label, (top, left, bottom, right) in zip(table["label"].tolist(), boxes.tolist(), strict=True):
        polygons = trace_polygons(block.labels[top:bottom, left:right] == label)
        yield label, [[ring + origin + (top, left) for ring in rings] for rings in polygons]
