"""Reads DV files of DeltaVision. Needs the extra `dv`.

The package mrc reads the header. The planes follow it, uncompressed, in the order that it states.
"""

from __future__ import annotations

from contextlib import ExitStack
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from nuclei_runtime.arrays import Image
from nuclei_runtime.errors import ImageReadError, ImageShapeError
from nuclei_runtime.readers.axes import Stack
from nuclei_runtime.readers.native_path import native_path
from nuclei_runtime.readers.pixel_size import in_micrometres

_HEADER_BYTES = 1024
_MARK_AT = 96
_MARKS = (b"\xa0\xc0", b"\xc0\xa0")
"""At byte 96 of a file with the lower byte first, and of one with the upper byte first (IVE header, dvid)."""

_MANY_POSITIONS = 20
"""Image type of a file that holds several positions in place of times."""


def open_dv(source: BinaryIO | Path, resources: ExitStack) -> Stack:
    """Return the image of a DV.

    Raises
    ------
    ImageReadError, ImageShapeError
        See `nuclei_runtime.readers.opening.read_image`.
    """
    import mrc

    file = cast(BinaryIO, source)
    file_bytes = file.seek(0, 2)
    file.seek(_MARK_AT)
    if file_bytes < _HEADER_BYTES or file.read(2) not in _MARKS:
        raise ImageReadError("the DV lacks the header of DeltaVision; it may be truncated")
    path = native_path(source, resources, ".dv")
    try:
        document: Any = mrc.DVFile(path)
        document.close()
    except (ValueError, KeyError, OverflowError) as error:  # also if the pixels do not fit into the file
        raise ImageReadError(f"the DV is damaged: its header does not fit its contents ({error})") from error
    header, sizes, dtype = document.hdr, document.sizes, document.dtype
    if header.img_type == _MANY_POSITIONS:
        raise ImageShapeError("the DV holds several positions, which is not supported; export each as a separate file")
    height, width = sizes["Y"], sizes["X"]
    lead = {axis: n for axis, n in sizes.items() if axis not in "YX"}
    start, plane_bytes = _HEADER_BYTES + header.ext_hdr_len, height * width * dtype.itemsize
    if min(sizes.values()) < 1 or header.ext_hdr_len < 0 or start + prod(lead.values()) * plane_bytes > file_bytes:
        raise ImageReadError(f"the DV is truncated or damaged: its {file_bytes} bytes cannot hold {sizes}")
    if prod(lead.values()) != header.n_sections:
        raise ImageReadError(f"the DV is damaged: it holds {header.n_sections} planes, but claims {sizes}")

    def read(index: tuple[int, ...], rows: slice, columns: slice) -> Image:
        n = int(np.ravel_multi_index(index, tuple(lead.values())))
        file.seek(start + n * plane_bytes + rows.start * width * dtype.itemsize)
        n_rows = rows.stop - rows.start
        data = file.read(n_rows * width * dtype.itemsize)
        return np.frombuffer(data, dtype).reshape(n_rows, width)[:, columns].copy()

    waves = [header.wave1, header.wave2, header.wave3, header.wave4, header.wave5][: sizes["C"]]
    named = all(wave > 0 for wave in waves) and len(waves) == sizes["C"]
    return Stack(
        axes="".join(lead) + "YX",
        shape=(*lead.values(), height, width),
        dtype=dtype,
        channels=tuple(str(wave) for wave in waves) if named else (),  # nanometres of the emission
        pixel_size_um=in_micrometres((header.dy, header.dx), ("um", "um")),
        read=read,
        reads_blocks=True,
    )
