"""The blocks of a plane -> one file per output, written as the blocks arrive."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nuclei_runtime.readers.plane import Plane
from nuclei_runtime.segmentation.blocks import Block
from nuclei_runtime.segmentation.memory import LABELS_IN_MEMORY_BYTES
from nuclei_runtime.segmentation.scratch_raster import ScratchRaster
from nuclei_runtime.steps.cells import Expansion
from nuclei_runtime.steps.evidence import NO_EVIDENCE, Evidence
from nuclei_runtime.steps.flags import Flag, complete_flags
from nuclei_runtime.steps.measure import median_diameter_px
from nuclei_runtime.steps.view import AS_IT_IS, View
from nuclei_runtime.writers.measuring import Cells, measured_blocks
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
    evidence : Evidence
    view : View
    flags : tuple of Flag
        Why the result may not be trusted.
    glass_share : float, optional
        See `nuclei_runtime.segmentation.blocks.Block`.
    """

    n_nuclei: int
    n_touching_border: int
    n_left_out: int
    diameter_px: float | None
    evidence: Evidence
    view: View
    flags: tuple[Flag, ...] = ()
    glass_share: float | None = None


def write_plane_files(
    image: str, plane: Plane, blocks: Iterable[Block], files: Mapping[Output, Path], expansion: Expansion | None = None
) -> Written:
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
    expansion : Expansion, optional
        How far the nuclei grow into cells, which are then measured too.

    Returns
    -------
    Written

    Raises
    ------
    ImageError
        From the blocks, or from `Expansion.growth`.
    OSError
        A file cannot be written.
    """
    growth = None if expansion is None else expansion.growth(plane.pixel_size_um)
    n_nuclei = max_label = n_touching_border = n_left_out = 0
    areas = []
    evidence, view, glass_share = NO_EVIDENCE, AS_IT_IS, None
    flags: tuple[Flag, ...] = ()
    with ExitStack() as opened:
        labels = opened.enter_context(ScratchRaster(np.int32, memory_bytes=LABELS_IN_MEMORY_BYTES))
        left_out = opened.enter_context(ScratchRaster(np.bool_, memory_bytes=LABELS_IN_MEMORY_BYTES // 4))
        cells = None if growth is None else Cells(labels, left_out, plane.shape, growth)
        writers = {output: opened.enter_context(output.writer(path, image, plane)) for output, path in files.items()}
        for block, table in measured_blocks(plane, blocks, labels, cells):
            n_nuclei += len(table["label"])
            max_label = max(max_label, int(table["label"].max(initial=0)))
            areas.append(table["area_px"])
            n_touching_border += int(table["touches_border"].sum())
            n_left_out += block.n_left_out
            evidence, view, flags, glass_share = block.evidence, block.view, block.flags, block.glass_share
            for writer in writers.values():
                writer.write_block(block, table)
        for output, writer in writers.items():
            writer.finish(cells if output.is_of_cells and cells is not None else labels, max_label)
    diameter_px = median_diameter_px(np.concatenate(areas))
    flags = complete_flags(flags, n_nuclei + n_left_out)
    return Written(n_nuclei, n_touching_border, n_left_out, diameter_px, evidence, view, flags, glass_share)
