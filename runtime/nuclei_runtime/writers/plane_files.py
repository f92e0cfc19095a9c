"""The blocks of a plane -> its label image, its overlay and its table, written while the blocks come."""

from __future__ import annotations

import csv
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image as PillowImage
from PIL.PngImagePlugin import PngInfo

from nuclei_runtime.readers.plane import Plane
from nuclei_runtime.segmentation.blocks import Block
from nuclei_runtime.segmentation.memory import LABEL_SPOOL_BYTES
from nuclei_runtime.segmentation.scratch_raster import CHUNK_PX, ScratchRaster
from nuclei_runtime.writers.nuclei_csv import NUCLEI_COLUMNS, nucleus_rows
from nuclei_runtime.writers.overlay_png import draw_plane_overlay, overlay_scale

MAX_STRIPS_PX = 4096
"""Longest side of a label image that is written in strips from memory; larger ones are written in tiles."""

_MAX_UINT16_LABEL = 65_535
_MAX_CLASSIC_BYTES = 1 << 32
"""Offsets in a classic TIFF have 32 bits (TIFF 6.0, section 2). Deflated labels lie far below their size in memory."""


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
        Label image, TIFF: 0 background, 1..N; 16 bit (32 beyond 65,535 nuclei), deflate; in tiles where a side is
        longer than `MAX_STRIPS_PX`, and then BigTIFF where needed.
    overlay : Path
        PNG; see `overlay_png`. One that is scaled down says so in a text of the keyword ``scale``: 1:5.
    table : Path
        CSV with a header: `NUCLEI_COLUMNS`, a row a nucleus, in the order of the numbers.

    Raises
    ------
    ImageError
        From the blocks.
    OSError
        A file cannot be written.
    """
    n_nuclei = 0
    with (
        ScratchRaster(np.int32, memory_bytes=LABEL_SPOOL_BYTES) as found,
        table.open("w", encoding="utf-8", newline="") as file,
    ):
        rows = csv.writer(file)
        rows.writerow(NUCLEI_COLUMNS)
        for block in blocks:
            found.write(block.rows, block.columns, block.labels, block.labels > 0)
            measured = nucleus_rows(
                name, block.image, block.labels, plane=plane, origin=(block.rows.start, block.columns.start)
            )
            rows.writerows(measured)
            n_nuclei += len(measured)
        _write_labels(labels, found, plane.shape[:2], n_nuclei)
        _write_overlay(overlay, plane, found)
    return PlaneFiles(n_nuclei, overlay_scale(plane.shape))


def _write_labels(path: Path, labels: ScratchRaster, shape: tuple[int, ...], n_nuclei: int) -> None:
    height, width = shape
    dtype = np.dtype("<u2" if n_nuclei <= _MAX_UINT16_LABEL else "<u4")
    in_tiles = max(shape) > MAX_STRIPS_PX

    def segments() -> Iterator[bytes]:
        """Deflated here: tifffile would do it with another library, and other bytes, where imagecodecs is installed."""
        for row in range(0, height, CHUNK_PX):
            end = row + CHUNK_PX
            rows = slice(row, end if in_tiles else min(end, height))  # a tile is whole, also beyond the image
            for column in range(0, width, CHUNK_PX if in_tiles else width):
                part = labels.read(rows, slice(column, column + (CHUNK_PX if in_tiles else width)))
                yield zlib.compress(part.astype(dtype).tobytes())

    tifffile.imwrite(
        path,
        segments(),
        shape=shape,
        dtype=dtype,
        byteorder="<",
        **({"tile": (CHUNK_PX, CHUNK_PX)} if in_tiles else {"rowsperstrip": CHUNK_PX}),
        bigtiff=height * width * dtype.itemsize >= _MAX_CLASSIC_BYTES,
        photometric="minisblack",
        compression="zlib",
        metadata=None,
        software=False,
    )


def _write_overlay(path: Path, plane: Plane, labels: ScratchRaster) -> None:
    scale = overlay_scale(plane.shape)
    info = PngInfo()
    if scale > 1:
        info.add_text("scale", f"1:{scale}")
    PillowImage.fromarray(draw_plane_overlay(plane, labels)).save(path, format="PNG", pnginfo=info)
