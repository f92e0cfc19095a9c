"""Opens an image file and returns its planes, or its single image; the content decides the format."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event, Lock
from typing import TYPE_CHECKING, BinaryIO

from nuclei_runtime.arguments import check_argument
from nuclei_runtime.arrays import Image
from nuclei_runtime.errors import ImageReadError, ImageShapeError
from nuclei_runtime.faults import is_of_machine, reading_error
from nuclei_runtime.readers.channels import UndecidedError
from nuclei_runtime.readers.formats import format_names, format_of_file, format_of_folder
from nuclei_runtime.readers.plane import Plane, Read, Selection
from nuclei_runtime.readers.plates.field import Field
from nuclei_runtime.readers.scenes import Contents, choose_planes

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


Source = str | os.PathLike[str] | bytes | Field
"""What can be opened: the path of a file or of a folder that is one image, the bytes of a file, or a field of a plate.
"""


def read_image(source: str | os.PathLike[str] | bytes) -> Image:
    """Read one image.

    The content decides the format, not the suffix.

    Parameters
    ----------
    source : path, or the bytes of a file

    Returns
    -------
    (H, W), (H, W, 3) or (H, W, 4) ndarray
        Of bool, an unsigned or signed integer or a float type, with the values stored in the file, except that grey
        with alpha loses its alpha, that palettes, CMYK, YCbCr and Lab become RGB, and that a TIFF of more than 1 bit in
        which 0 is white is inverted. The lookup tables of ImageJ change nothing.

    Raises
    ------
    ImageReadError
        The file is missing, empty, truncated, damaged, of an unknown format, or compressed in an unsupported way.
    ImageShapeError
        The file holds a stack or more than one image, or has no pixels.
    ImageValueError
        The values are not finite (NaN or infinite).
    RuntimeEnvironmentError
        The machine is at fault: for example, the process may open no more files.
    """
    with _opened(source, None) as planes:
        if len(planes) > 1:
            raise ImageShapeError(f"the file holds {len(planes)} images; save the one to segment as a file of its own")
        (plane,) = planes
        return plane.read(slice(0, plane.shape[0]), slice(0, plane.shape[1]))


@contextmanager
def open_planes(source: Source, selection: Selection) -> Iterator[Sequence[Plane]]:
    """Open an image and find its planes, ordered by scene, time and Z. Planes can be read while the image is open.

    The content decides the format, not the suffix. Several threads may read planes; the reads take turns.

    Parameters
    ----------
    source : path of a file or of an OME-Zarr folder, the bytes of a file, or a field of a plate
    selection : Selection

    Raises
    ------
    ImageError, RuntimeEnvironmentError
        See `read_image`. Also raised if neither the file nor `selection` says what a dimension means, which channel
        to read, which of several images, or what to do with a Z stack; the message names the choices.
    ArgumentError
        This is no selection.
    """
    check_argument(isinstance(selection, Selection), "selection", "a Selection, such as Selection(z='max')", selection)
    with _opened(source, selection) as planes:
        yield planes


@contextmanager
def _opened(source: Source, selection: Selection | None) -> Iterator[Sequence[Plane]]:
    """Open an image; without a selection, for a reader that offers no choice."""
    with ExitStack() as resources:
        troubles: list[OSError] = []
        with _attributed(troubles):
            planes = _find(source, selection, resources, troubles)
        lock = Lock()  # the planes share one file and its position
        closed = Event()
        resources.callback(closed.set)
        yield [plane.reading(lambda read: _guarded(read, lock, troubles, closed)) for plane in planes]


def _find(source: Source, selection: Selection | None, resources: ExitStack, troubles: list[OSError]) -> list[Plane]:
    try:
        planes = choose_planes(_open_contents(source, resources, troubles), selection or Selection())
    except UndecidedError as error:
        if selection is not None:
            raise
        raise ImageShapeError(f"the file holds {error.found}; save the one to use as a file of its own") from None
    if isinstance(source, Field):
        planes = [replace(plane, well=source.well, field=source.name) for plane in planes]
    return planes


def _open_contents(source: Source, resources: ExitStack, troubles: list[OSError]) -> Contents:
    if isinstance(source, Field):
        return source.open(lambda path, opened: _open_contents(path, opened, troubles), resources)
    if not isinstance(source, str | os.PathLike | bytes):
        raise ImageReadError(f"found {type(source).__name__}, expected the path of an image or the bytes of its file")
    if not isinstance(source, bytes) and _is_folder(source):
        form = format_of_folder(Path(source))
        if form is None:
            raise ImageReadError(
                f"cannot be opened: it is a folder that is not an image of {format_names(folders=True)}"
            )
        return form.open(Path(source), resources)
    file: BinaryIO = io.BytesIO(source) if isinstance(source, bytes) else _open(source, troubles)
    resources.enter_context(file)
    form = format_of_file(file, "" if isinstance(source, bytes) else Path(source).name)
    if form is not None:
        return form.open(file, resources)
    if not file.read(1):
        raise ImageReadError("the file is empty (0 bytes)")
    raise ImageReadError(f"the file is not an image of a known format; expected {format_names(folders=False)}")


def _is_folder(path: str | os.PathLike[str]) -> bool:
    try:
        return Path(path).is_dir()
    except (OSError, ValueError):  # opening it will report the reason
        return False


def _open(path: str | os.PathLike[str], troubles: list[OSError]) -> BinaryIO:
    try:
        return io.BufferedReader(_ImageFile(path, troubles))
    except ValueError as error:  # a path with a null character
        raise ImageReadError(f"cannot be opened: {error}") from error
    except OSError as error:
        if is_of_machine(error):
            raise
        raise ImageReadError(f"cannot be opened: {error.strerror or error}") from error


class _ImageFile(io.FileIO):
    """A file that records the errors of the machine, because some decoders mistake a failed read for damage."""

    def __init__(self, path: str | os.PathLike[str], troubles: list[OSError]) -> None:
        super().__init__(os.fspath(path), "rb")
        self._troubles = troubles

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        with self._noting():
            return super().readinto(buffer)

    def readall(self) -> bytes:
        with self._noting():
            return super().readall()

    @contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if is_of_machine(error):
                error.filename = self.name
                self._troubles.append(error)
            raise


@contextmanager
def _attributed(troubles: list[OSError]) -> Iterator[None]:
    """Turn any exception into an error of the image, or of the machine if the machine was at fault."""
    try:
        yield
    except Exception as error:
        known = reading_error(troubles[-1] if troubles else error)
        if known is error:
            raise
        raise known from error


def _guarded(read: Read, lock: Lock, troubles: list[OSError], closed: Event) -> Read:
    def guarded(rows: slice, columns: slice) -> Image:
        with lock, _attributed(troubles):
            if closed.is_set():
                raise ImageReadError("the file is closed; read its planes inside the with statement that opened it")
            return read(rows, columns)

    return guarded
