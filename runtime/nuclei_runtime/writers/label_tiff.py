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

from nuclei_runtime.arguments import check_argument, is_path
from nuclei_runtime.arrays import check_labels, check_pixel_size
from nuclei_runtime.readers.pixel_size import PixelSize
from nuclei_runtime.segmentation.scratch_raster import CHUNK_PX
from nuclei_runtime.writers.plane_writer import LabelSource, PlaneWriter

MAX_STRIPS_PX = 4096
"""Longest side of a label image that is written in strips. A larger one is a pyramid whose last level is not larger."""
LEVELS = (4, 16, 64)
"""How much lower the resolutions of the levels are, as in slides of Aperio. Divisors of `CHUNK_PX`."""

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
    ArgumentError
        This is no path, or no size of a pixel.
    """
    check_argument(is_path(path) and Path(path).name != "", "path", "the path of the new file", path)
    check_labels(labels)
    check_pixel_size(pixel_size_um)
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

    16 bits per pixel, 32 if a number is above 65,535; compressed with deflate; with the pixel size of the image, if it
    is known. Where a side is longer than `MAX_STRIPS_PX`, it is a pyramid: an OME-TIFF in tiles, BigTIFF where needed,
    with lower resolutions in SubIFDs, as viewers of slides expect.
    """
    height, width = shape
    dtype = np.dtype("<u2" if max_label <= _MAX_UINT16_LABEL else "<u4")
    common: dict[str, Any] = {
        "dtype": dtype,
        "photometric": "minisblack",
        "compression": "zlib",
        "metadata": None,
        "software": False,
    }
    if max(shape) <= MAX_STRIPS_PX:
        strips = (
            _deflated(read(slice(row, min(row + CHUNK_PX, height)), slice(0, width)), dtype)
            for row in range(0, height, CHUNK_PX)
        )
        common |= {"rowsperstrip": CHUNK_PX, **_resolution(pixel_size_um)}
        tifffile.imwrite(path, strips, shape=(height, width), byteorder="<", **common)
        return
    factors = [factor for factor in LEVELS if max(shape) * LEVELS[0] > MAX_STRIPS_PX * factor and min(shape) >= factor]
    common["tile"] = (CHUNK_PX, CHUNK_PX)
    is_big = height * width * dtype.itemsize >= _MAX_CLASSIC_BYTES
    with tifffile.TiffWriter(path, bigtiff=is_big, byteorder="<") as writer:
        writer.write(
            _tiles(read, shape, dtype, 1),
            shape=(height, width),
            subifds=len(factors),
            description=_ome_xml(shape, dtype, pixel_size_um),
            **common,
            **_resolution(pixel_size_um),
        )
        for factor in factors:
            level = (height // factor, width // factor)
            writer.write(_tiles(read, shape, dtype, factor), shape=level, subfiletype=1, **common)


def _tiles(
    read: Callable[[slice, slice], NDArray[Any]], shape: tuple[int, ...], dtype: np.dtype[Any], factor: int
) -> Iterator[bytes]:
    """Yield the tiles of a level: of each square of pixels the label in its middle, since numbers have no mean.

    What is read at a time does not grow with the factor.
    """
    height, width = (length // factor * factor for length in shape)
    side, sampled = CHUNK_PX * factor, CHUNK_PX // factor
    empty = _deflated(np.zeros((CHUNK_PX, CHUNK_PX)), dtype)
    for top in range(0, height, side):
        for left in range(0, width, side):
            tile = np.zeros((CHUNK_PX, CHUNK_PX), dtype)  # whole, also beyond the image
            for row in range(top, min(top + side, height), CHUNK_PX):
                for column in range(left, min(left + side, width), CHUNK_PX):
                    rows, columns = (
                        slice(row, min(row + CHUNK_PX, height)),
                        slice(column, min(column + CHUNK_PX, width)),
                    )
                    part = read(rows, columns)[factor // 2 :: factor, factor // 2 :: factor]
                    y, x = (row - top) // CHUNK_PX * sampled, (column - left) // CHUNK_PX * sampled
                    tile[y : y + part.shape[0], x : x + part.shape[1]] = part
            yield _deflated(tile, dtype) if tile.any() else empty


def _deflated(labels: NDArray[Any], dtype: np.dtype[Any]) -> bytes:
    """Deflate here: tifffile would use imagecodecs where it is installed, and give other bytes."""
    return zlib.compress(labels.astype(dtype).tobytes())


def _ome_xml(shape: tuple[int, ...], dtype: np.dtype[Any], pixel_size_um: PixelSize | None) -> str:
    """Return the metadata that make viewers take the SubIFDs for levels (OME-TIFF specification, 6.0)."""
    sizes: dict[str, float] = {"SizeX": shape[1], "SizeY": shape[0], "SizeZ": 1, "SizeC": 1, "SizeT": 1}
    if pixel_size_um is not None:
        sizes |= {"PhysicalSizeX": pixel_size_um[1], "PhysicalSizeY": pixel_size_um[0]}  # in micrometres by default
    attributes = " ".join(f'{name}="{value}"' for name, value in sizes.items())
    return (
        '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        f'<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="{dtype.name}" {attributes}>'
        '<Channel ID="Channel:0:0" SamplesPerPixel="1"/><TiffData IFD="0" PlaneCount="1"/>'
        "</Pixels></Image></OME>"
    )


def _resolution(pixel_size_um: PixelSize | None) -> dict[str, Any]:
    """Return the tags that ImageJ, Bio-Formats and others read the size of a pixel from: pixels per centimetre."""
    if pixel_size_um is None:
        return {}
    height, width = (10_000 / size for size in pixel_size_um)
    if not all(1 / _MAX_RATIONAL < value < _MAX_RATIONAL for value in (height, width)):
        return {}
    return {"resolution": (width, height), "resolutionunit": "CENTIMETER"}
