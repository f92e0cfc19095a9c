"""The blocks of a plane -> its label image, its overlay and its table, written while the blocks come."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image as PillowImage

from nuclei_runtime.blocks import Block
from nuclei_runtime.overlay import draw_overlay
from nuclei_runtime.planes import Plane
from nuclei_runtime.tables import NUCLEI_COLUMNS, nucleus_rows

_MAX_UINT16_LABEL = 65_535


@dataclass(frozen=True)
class PlaneFiles:
    """What was written of a plane.

    Attributes
    ----------
    n_nuclei : int
    overlay_scale : int
        The overlay shows one pixel for so many of the plane's in each direction; 1 unless the plane is huge.
    """

    n_nuclei: int
    overlay_scale: int


def write_plane_files(
    name: str, plane: Plane, blocks: Iterable[Block], *, labels: Path, overlay: Path, table: Path
) -> PlaneFiles:
    """Write what became of a plane to three new files, whose names and fate are the caller's business.

    The bytes depend on nothing but the arguments: no clock, no versions.

    Parameters
    ----------
    name : str
        The image's, for the table.
    plane : Plane
    blocks : iterable of Block
    labels : Path
        Label image, TIFF: 0 background, 1..N; 16 bit (32 beyond 65,535 nuclei), deflate.
    overlay : Path
        PNG; see `nuclei_runtime.overlay`.
    table : Path
        CSV with a header: `nuclei_runtime.tables.NUCLEI_COLUMNS`, a row a nucleus, in the order of the numbers.

    Raises
    ------
    ImageError
        From the blocks.
    OSError
        A file cannot be written.
    """
    (block,) = blocks
    depth = np.uint16 if block.labels.max() <= _MAX_UINT16_LABEL else np.uint32
    tifffile.imwrite(
        labels,
        block.labels.astype(depth),
        photometric="minisblack",
        compression="zlib",
        metadata=None,
        software=False,
    )
    PillowImage.fromarray(draw_overlay(block.image, block.labels)).save(overlay, format="PNG")
    rows = nucleus_rows(name, block.image, block.labels, (block.rows.start, block.columns.start), plane=plane)
    with table.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([NUCLEI_COLUMNS, *rows])
    assert plane.shape[:2] == block.labels.shape
    return PlaneFiles(len(rows), 1)
