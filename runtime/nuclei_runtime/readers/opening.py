"""A file -> the planes in it, or its one image: the content decides which format it is."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from math import prod
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from nuclei_runtime.arrays import Image
from nuclei_runtime.errors import ImageError, ImageReadError, ImageShapeError
from nuclei_runtime.readers.axes import Stack, find_planes
from nuclei_runtime.readers.plane import Plane, Selection

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
"""What counts as an image in a folder, in lower case."""


def read_image(source: str | os.PathLike[str] | bytes) -> Image:
    """Read one image.

    The content decides the format, not the suffix.

    Parameters
    ----------
    source : path, or the bytes of a file

    Returns
    -------
    (H, W), (H, W, 3) or (H, W, 4) ndarray
        Of bool, an unsigned or signed integer or a float type, with the values that the file stores; grey with
        alpha comes without its alpha, palettes, CMYK, YCbCr and Lab come as RGB, and a TIFF in which 0 is white
        (of more than 1 bit) comes inverted.

    Raises
    ------
    ImageReadError
        The file is missing, empty, truncated, damaged, of another format, or compressed in a way that is not read.
    ImageShapeError
        The file holds a stack or more than one image, or has no pixels.
    ImageValueError
        The values are not finite (NaN or infinite).
    """
    with open_planes(source, Selection()) as planes:
        if len(planes) > 1:
            raise ImageShapeError(f"the file holds {len(planes)} images; save the one to segment on its own")
        (plane,) = planes
        return plane.read(slice(0, plane.shape[0]), slice(0, plane.shape[1]))


@contextmanager
def open_planes(source: str | os.PathLike[str] | bytes, selection: Selection) -> Iterator[Sequence[Plane]]:
    """Open an image and find its planes, in the order of time, then Z. Planes are read while it is open.

    The content decides the format, not the suffix. Planes may be read from several threads; one reads at a time.

    Parameters
    ----------
    source : path of a file or of an OME-Zarr folder, or the bytes of a file
    selection : Selection

    Raises
    ------
    ImageError
        See `read_image`; also, what a dimension means, which channel, or what of a Z stack is
        neither in the file nor in `selection`. The message names the choices.
    """
    with ExitStack() as resources:
        with _only_image_errors():
            planes = _find(source, selection, resources)
        lock = Lock()  # the planes share a file, which stands at one place at a time
        yield [replace(plane, read=_guarded(plane.read, lock)) for plane in planes]


def _find(source: str | os.PathLike[str] | bytes, selection: Selection, resources: ExitStack) -> list[Plane]:
    stack = _open_stack(source, resources)
    # What lies behind X comes pixel by pixel, all of it, whatever is kept.
    together = prod(stack.shape[stack.axes.index("X") + 1 :])
    planes = find_planes(stack, selection)
    return [replace(plane, channels_together=together // prod(plane.shape[2:])) for plane in planes]


def _open_stack(source: str | os.PathLike[str] | bytes, resources: ExitStack) -> Stack:
    if not isinstance(source, bytes) and _is_folder(source):
        from nuclei_runtime.readers.ome_zarr import open_zarr

        return open_zarr(Path(source))
    file = resources.enter_context(io.BytesIO(source) if isinstance(source, bytes) else _open(source))
    start = file.read(4)
    if not start:
        raise ImageReadError("the file is empty (0 bytes)")
    from nuclei_runtime.readers.tiff.directories import TIFF_SIGNATURES

    if start in TIFF_SIGNATURES:
        from nuclei_runtime.readers.tiff.stack import open_tiff

        return open_tiff(file, resources)
    from nuclei_runtime.readers.pictures import open_picture_file

    return open_picture_file(file)


def _is_folder(path: str | os.PathLike[str]) -> bool:
    try:
        return Path(path).is_dir()
    except (OSError, ValueError):  # opening it will say why
        return False


def _open(path: str | os.PathLike[str]) -> BinaryIO:
    try:
        return Path(path).open("rb")
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        raise ImageReadError(f"cannot be opened: {getattr(error, 'strerror', None) or error}") from error


@contextmanager
def _only_image_errors() -> Iterator[None]:
    try:
        yield
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageReadError("there is not enough memory for the size that the file claims") from error
    except Exception as error:  # decoders raise whatever damaged bytes lead them into
        reason = str(error) or type(error).__name__
        raise ImageReadError(f"cannot be decoded, the file may be truncated or damaged: {reason}") from error


def _guarded(read: Callable[[slice, slice], Image], lock: Lock) -> Callable[[slice, slice], Image]:
    def guarded(rows: slice, columns: slice) -> Image:
        with lock, _only_image_errors():
            return read(rows, columns)

    return guarded
