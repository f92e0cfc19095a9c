"""The label image of a plane: a TIFF in which each nucleus has its number."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from nuclei_runtime.arrays import check_labels
from nuclei_runtime.readers.pixel_size import PixelSize
from nuclei_runtime.segmentation.scratch_raster import CHUNK_PX
from nuclei_runtime.writers.plane_writer import LabelSource, PlaneWriter

MAX_STRIPS_PX = 4096
"""Longest side of a label image that is written in strips; larger ones are written in tiles."""

_MAX_UINT16_LABEL = 65_535
_MAX_RATIONAL = 1 << 31
"""Resolutions are quotients of numbers of 32 bits (TIFF 6.0, section 2)."""
_MAX_CLASSIC_BYTES = 1 << 32
"""Offsets in a classic TIFF have 32 bits (TIFF 6.0, section 2). Deflated labels are far smaller than in memory."""


class LabelTiffWriter(PlaneWriter):
    """Writes a label image: 0 background, 1..N; see `_write`."""

    def finish(self, labels: LabelSource, n_nuclei: int) -> None:
        """Write the file."""
        _write(self.path, labels.read, self.plane.shape[:2], n_nuclei, self.plane.pixel_size_um)


def save_labels(path: str | os.PathLike[str], labels: NDArray[Any], pixel_size_um: PixelSize | None = None) -> None:
    """Write a label image as the TIFF that is in ``labels/`` of a results folder.

    The file appears under its name when it is complete, and replaces an earlier one.

    Parameters
    ----------
    path : path
        Its folder exists.
    labels : (H, W) ndarray of integers
        0 background, each nucleus its number. Numbers may have gaps, as after a correction by hand.
    pixel_size_um : (float, float), optional
        Height and width of a pixel in micrometres.

    Raises
    ------
    ImageShapeError, ImageValueError
        This is not a label image.
    OSError
        The file cannot be written.
    """
    check_labels(labels)
    height, width = labels.shape
    part = Path(path).with_name(Path(path).name + ".part")
    try:
        _write(part, lambda rows, columns: labels[rows, columns], (height, width), int(labels.max()), pixel_size_um)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _write(
    path: Path,
    read: Callable[[slice, slice], NDArray[Any]],
    shape: tuple[int, ...],
    max_label: int,
    pixel_size_um: PixelSize | None,
) -> None:
    """Write a label image from what `read` returns for its regions.

    16 bits per pixel, 32 if a number is above 65,535; compressed with deflate; in tiles where a side is longer than
    `MAX_STRIPS_PX`, and then BigTIFF where needed; with the pixel size of the image, if it is known.
    """
    height, width = shape
    dtype = np.dtype("<u2" if max_label <= _MAX_UINT16_LABEL else "<u4")
    in_tiles = max(shape) > MAX_STRIPS_PX

    def segments() -> Iterator[bytes]:
        """Deflate here: tifffile would use imagecodecs where it is installed, and give other bytes."""
        for row in range(0, height, CHUNK_PX):
            rows = slice(row, min(row + CHUNK_PX, height))
            for column in range(0, width, CHUNK_PX if in_tiles else width):
                columns = slice(column, min(column + (CHUNK_PX if in_tiles else width), width))
                part = read(rows, columns).astype(dtype)
                if in_tiles:  # a tile is whole, also beyond the image
                    part = np.pad(part, [(0, CHUNK_PX - length) for length in part.shape])
                yield zlib.compress(part.tobytes())

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
        **_resolution(pixel_size_um),
    )


def _resolution(pixel_size_um: PixelSize | None) -> dict[str, Any]:
    """Return the tags that ImageJ, Bio-Formats and others read the size of a pixel from: pixels per centimetre."""
    if pixel_size_um is None:
        return {}
    height, width = (10_000 / size for size in pixel_size_um)
    if not all(1 / _MAX_RATIONAL < value < _MAX_RATIONAL for value in (height, width)):
        return {}
    return {"resolution": (width, height), "resolutionunit": "CENTIMETER"}
