"""The label image of a plane: a TIFF in which each nucleus has its number."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tifffile

from nuclei_runtime.readers.pixel_size import PixelSize
from nuclei_runtime.segmentation.scratch_raster import CHUNK_PX, ScratchRaster
from nuclei_runtime.writers.plane_writer import PlaneWriter

MAX_STRIPS_PX = 4096
"""Longest side of a label image that is written in strips; larger ones are written in tiles."""

_MAX_UINT16_LABEL = 65_535
_MAX_RATIONAL = 1 << 31
"""Resolutions are quotients of numbers of 32 bits (TIFF 6.0, section 2)."""
_MAX_CLASSIC_BYTES = 1 << 32
"""Offsets in a classic TIFF have 32 bits (TIFF 6.0, section 2). Deflated labels are far smaller than in memory."""


class LabelTiffWriter(PlaneWriter):
    """Writes a label image: 0 background, 1..N.

    16 bits per pixel, 32 beyond 65,535 nuclei; compressed with deflate; in tiles where a side is longer than
    `MAX_STRIPS_PX`, and then BigTIFF where needed; with the pixel size of the image, if it is known.
    """

    def finish(self, labels: ScratchRaster, n_nuclei: int) -> None:
        """Write the file."""
        height, width = shape = self.plane.shape[:2]
        dtype = np.dtype("<u2" if n_nuclei <= _MAX_UINT16_LABEL else "<u4")
        in_tiles = max(shape) > MAX_STRIPS_PX

        def segments() -> Iterator[bytes]:
            """Deflate here: tifffile would use imagecodecs where it is installed, and give other bytes."""
            for row in range(0, height, CHUNK_PX):
                end = row + CHUNK_PX
                rows = slice(row, end if in_tiles else min(end, height))  # a tile is whole, also beyond the image
                for column in range(0, width, CHUNK_PX if in_tiles else width):
                    part = labels.read(rows, slice(column, column + (CHUNK_PX if in_tiles else width)))
                    yield zlib.compress(part.astype(dtype).tobytes())

        tifffile.imwrite(
            self.path,
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
            **_resolution(self.plane.pixel_size_um),
        )


def _resolution(pixel_size_um: PixelSize | None) -> dict[str, Any]:
    """Return the tags that ImageJ, Bio-Formats and others read the size of a pixel from: pixels per centimetre."""
    if pixel_size_um is None:
        return {}
    height, width = (10_000 / size for size in pixel_size_um)
    if not all(1 / _MAX_RATIONAL < value < _MAX_RATIONAL for value in (height, width)):
        return {}
    return {"resolution": (width, height), "resolutionunit": "CENTIMETER"}
