"""The blocks of a plane -> one file per output, written as the blocks arrive."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from nuclei_runtime.readers.plane import Plane
from nuclei_runtime.segmentation.blocks import Block
from nuclei_runtime.segmentation.memory import LABELS_IN_MEMORY_BYTES
from nuclei_runtime.segmentation.scratch_raster import ScratchRaster
from nuclei_runtime.steps.contrast import Contrast
from nuclei_runtime.writers.outputs import Output


def write_plane_files(
    image: str, plane: Plane, blocks: Iterable[Block], files: Mapping[Output, Path]
) -> tuple[int, Contrast | None]:
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
    n_nuclei : int
    contrast : Contrast, optional
        See `Block`.

    Raises
    ------
    ImageError
        From the blocks.
    OSError
        A file cannot be written.
    """
    n_nuclei, contrast = 0, None
    with ExitStack() as opened:
        labels = opened.enter_context(ScratchRaster(np.int32, memory_bytes=LABELS_IN_MEMORY_BYTES))
        writers = [opened.enter_context(output.writer(path, image, plane)) for output, path in files.items()]
        for block in blocks:
            labels.write(block.rows, block.columns, block.labels, block.labels > 0)
            n_nuclei, contrast = max(n_nuclei, int(block.labels.max())), block.contrast
            for writer in writers:
                writer.write_block(block)
        for writer in writers:
            writer.finish(labels, n_nuclei)
    return n_nuclei, contrast
