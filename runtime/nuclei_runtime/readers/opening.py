"""A file -> the planes in it, or its one image: the content decides which format it is."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from nuclei_runtime.arrays import Image
from nuclei_runtime.errors import ImageReadError, ImageShapeError
from nuclei_runtime.faults import is_of_machine, reading_error
from nuclei_runtime.readers.axes import Stack, find_planes
from nuclei_runtime.readers.formats import FORMATS, format_of_file, format_of_folder
from nuclei_runtime.readers.plane import Plane, Selection


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
    RuntimeEnvironmentError
        The machine is at fault: it has no file, memory or disk space left to read with.
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
    ImageError, RuntimeEnvironmentError
        See `read_image`; also, what a dimension means, which channel, or what of a Z stack is
        neither in the file nor in `selection`. The message names the choices.
    """
    with ExitStack() as resources:
        with _attributed():
            planes = _find(source, selection, resources)
        lock = Lock()  # the planes share a file, which stands at one place at a time
        yield [replace(plane, read=_guarded(plane.read, lock)) for plane in planes]


def _find(source: str | os.PathLike[str] | bytes, selection: Selection, resources: ExitStack) -> list[Plane]:
    return find_planes(_open_stack(source, resources), selection)


def _open_stack(source: str | os.PathLike[str] | bytes, resources: ExitStack) -> Stack:
    if not isinstance(source, bytes) and _is_folder(source):
        form = format_of_folder(Path(source))
        if form is None:
            kinds = " or ".join(form.name for form in FORMATS if form.is_folder)
            raise ImageReadError(f"cannot be opened: it is a folder, and not an {kinds} image")
        return form.open(Path(source), resources)
    file = resources.enter_context(io.BytesIO(source) if isinstance(source, bytes) else _open(source))
    form = format_of_file(file)
    if form is not None:
        return form.open(file, resources)
    if not file.read(1):
        raise ImageReadError("the file is empty (0 bytes)")
    *others, last = (form.name for form in FORMATS if not form.is_folder)
    raise ImageReadError(f"the content is not an image of a known format; expected {', '.join(others)} or {last}")


def _is_folder(path: str | os.PathLike[str]) -> bool:
    try:
        return Path(path).is_dir()
    except (OSError, ValueError):  # opening it will say why
        return False


def _open(path: str | os.PathLike[str]) -> BinaryIO:
    try:
        return Path(path).open("rb")
    except ValueError as error:  # a path with a null character
        raise ImageReadError(f"cannot be opened: {error}") from error
    except OSError as error:
        if is_of_machine(error):
            raise
        raise ImageReadError(f"cannot be opened: {error.strerror or error}") from error


@contextmanager
def _attributed() -> Iterator[None]:
    """Raise whatever comes up as an error of the image or of the machine."""
    try:
        yield
    except Exception as error:
        known = reading_error(error)
        if known is error:
            raise
        raise known from error


def _guarded(read: Callable[[slice, slice], Image], lock: Lock) -> Callable[[slice, slice], Image]:
    def guarded(rows: slice, columns: slice) -> Image:
        with lock, _attributed():
            return read(rows, columns)

    return guarded
