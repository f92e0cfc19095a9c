"""The blocks of a plane -> one file per output, written as the blocks arrive."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from nuclei_runtime.readers.plane import Plane
from nuclei_runtime.segmentation.blocks import Block
from nuclei_runtime.segmentation.memory import LABELS_IN_MEMORY_BYTES
from nuclei_runtime.segmentation.scratch_raster import ScratchRaster
from nuclei_runtime.steps.contrast import Contrast
from nuclei_runtime.steps.measure import median_diameter_px
from nuclei_runtime.steps.nuclei_table import measure_nuclei
from nuclei_runtime.steps.view import AS_IT_IS, View
from nuclei_runtime.writers.outputs import Output


@dataclass(frozen=True)
class Written:
    """What the files of a plane contain.

    Attributes
    ----------
    n_nuclei : int
    n_touching_border : int
        Of these, how many have a pixel on the edge of the plane.
    n_left_out : int
        Nuclei that were found and left out; see `nuclei_runtime.steps.sieve`.
    diameter_px : float, optional
        Median diameter of disks with the areas of the nuclei; None if there are none.
    contrast : Contrast, optional
    view : View
    expected_ap : float, optional
        See `nuclei_runtime.segmentation.blocks.Block`.
    """

    n_nuclei: int
    n_touching_border: int
    n_left_out: int
    diameter_px: float | None
    contrast: Contrast | None
    view: View
    expected_ap: float | None


def write_plane_files(image: str, plane: Plane, blocks: Iterable[Block], files: Mapping[Output, Path]) -> Written:
    """Write the outputs of one plane.

    Parameters
    ----------
    image : str
        The image file's name, as results show it.
    plane : Plane
    blocks : iterable of Block
        Of the whole plane.
    files : mapping of Output to Path
        The new file of each output.

    Returns
    -------
    Written

    Raises
    ------
    ImageError
        From the blocks.
    OSError
        A file cannot be written.
    """
    n_nuclei = n_touching_border = n_left_out = 0
    areas = []
    contrast, view, expected_ap = None, AS_IT_IS, None
    with ExitStack() as opened:
        labels = opened.enter_context(ScratchRaster(np.int32, memory_bytes=LABELS_IN_MEMORY_BYTES))
        writers = [opened.enter_context(output.writer(path, image, plane)) for output, path in files.items()]
        for block in blocks:
            labels.write(block.rows, block.columns, block.labels, block.labels > 0)
            n_nuclei = max(n_nuclei, int(block.labels.max()))
            table = measure_nuclei(
                block.image,
                block.labels,
                pixel_size_um=plane.pixel_size_um,
                channels={one.name: partial(one.read, block.rows, block.columns) for one in plane.measured},
                origin=(block.rows.start, block.columns.start),
                shape=plane.shape,
            )
            areas.append(table["area_px"])
            n_touching_border += int(table["touches_border"].sum())
            n_left_out += block.n_left_out
            contrast, view, expected_ap = block.contrast, block.view, block.expected_ap
            for writer in writers:
                writer.write_block(block, table)
        for writer in writers:
            writer.finish(labels, n_nuclei)
    diameter_px = median_diameter_px(np.concatenate(areas))
    return Written(n_nuclei, n_touching_border, n_left_out, diameter_px, contrast, view, expected_ap)
