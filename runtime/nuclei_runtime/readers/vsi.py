"""Reads VSI files of Olympus and Evident, whose pixels lie in a folder beside them. Needs the extra `slides`."""

from __future__ import annotations

import struct
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from nuclei_runtime.arrays import Image
from nuclei_runtime.errors import ImageReadError
from nuclei_runtime.readers.axes import Stack
from nuclei_runtime.readers.bounds import check_claim
from nuclei_runtime.readers.native_path import native_path
from nuclei_runtime.readers.pixel_size import in_micrometres
from nuclei_runtime.readers.scenes import Contents, Scene

_HEADER = struct.Struct("<4s28xqi20x4s24xiii")
_MIN_PLACE_BYTES = 20
"""Of the entry for a tile: where it begins, and how long it is, besides its coordinates."""


def open_vsi(source: BinaryIO | Path, resources: ExitStack) -> Contents:
    """Return the scans of a VSI; the label and the overview are not among them.

    Raises
    ------
    ImageReadError
        The folder with the pixels is missing, or the file is damaged.
    """
    import slideio

    path = native_path(source, resources, ".vsi")
    folder = path.parent / f"_{path.stem}_"
    if not folder.is_dir():
        raise ImageReadError(
            f"the pixels of the VSI are in the folder {folder.name} beside it, which is missing; copy both"
        )
    parts = [part for part in folder.rglob("*") if part.is_file()]
    n_bytes = sum(part.stat().st_size for part in parts)
    for part in parts:
        if part.suffix.lower() == ".ets":
            _check_header(part)
    slide: Any = resources.enter_context(slideio.open_slide(str(path), "VSI"))
    scans = [slide.get_scene(i) for i in range(slide.num_scenes)]
    if not scans:
        raise ImageReadError("the VSI holds no scan; it may be truncated")
    return [Scene(str(scan.name), partial(_stack, scan, n_bytes), may_be_overview=True) for scan in scans]


def _check_header(part: Path) -> None:
    """Refuse tiles that cannot be: slideio would allocate memory for them.

    The header was compared with that of a file: SIS, then the place and number of the tiles; ETS, then their size.
    """
    with part.open("rb") as file:
        start = file.read(_HEADER.size)
    size = part.stat().st_size
    if len(start) < _HEADER.size:
        raise ImageReadError(f"{part.name}, which holds pixels of the VSI, is truncated")
    sis, places_at, n_tiles, ets, width, height, depth = _HEADER.unpack(start)
    if (sis, ets) != (b"SIS\0", b"ETS\0") or min(places_at, n_tiles, width, height, depth) < 1:
        raise ImageReadError(f"{part.name}, which holds pixels of the VSI, is damaged")
    if places_at + n_tiles * _MIN_PLACE_BYTES > size:
        raise ImageReadError(f"{part.name}, which holds pixels of the VSI, is truncated: {n_tiles} tiles are not in it")
    check_claim("VSI's tile", width * height * depth, size)


def _stack(scan: Any, file_bytes: int) -> Stack:
    width, height = map(int, scan.size)
    n_channels, n_z, n_t = int(scan.num_channels), int(scan.num_z_slices), int(scan.num_t_frames)
    types = {np.dtype(scan.get_channel_data_type(i)) for i in range(n_channels)}
    if len(types) != 1 or min(height, width, n_channels, n_z, n_t) < 1:
        raise ImageReadError(f"the VSI is damaged: {n_channels} channels of {len(types)} types, {height} x {width}")
    (dtype,) = types
    names = tuple(str(scan.get_channel_name(i)) for i in range(n_channels))
    is_colour = n_channels == 3 and dtype == np.uint8 and not all(names)
    check_claim("VSI", height * width * dtype.itemsize, file_bytes)

    def read(index: tuple[int, ...], rows: slice, columns: slice) -> Image:
        t, z, *channel = index
        rectangle = (columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)
        image: Image = scan.read_block(
            rectangle, channel_indices=channel or [0, 1, 2], slices=(z, z + 1), frames=(t, t + 1)
        )
        return image

    across, down = scan.resolution
    return Stack(
        axes="TZYXS" if is_colour else "TZCYX",
        shape=(n_t, n_z, height, width, 3) if is_colour else (n_t, n_z, n_channels, height, width),
        dtype=dtype,
        channels=() if is_colour or not all(names) else names,
        pixel_size_um=in_micrometres((down, across), ("m", "m")),
        read=read,
        reads_blocks=True,
    )
