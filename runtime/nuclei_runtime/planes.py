"""A file -> the planes in it: single grey or colour images that are read when, and only as far as, they are needed."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, BinaryIO

from numpy.typing import DTypeLike

from nuclei_runtime.errors import ImageError, ImageReadError, InputsError
from nuclei_runtime.reading import Image

if TYPE_CHECKING:
    from nuclei_runtime.axes import Stack

AXES = "TCZYXS"
"""Time, channel, depth, row, column, sample of a colour."""
Z_CHOICES = ("each", "max")


@dataclass(frozen=True)
class Selection:
    """What is to be read of a file that holds more than one image. What is None is not asked for.

    Attributes
    ----------
    axes : str, optional
        A letter a dimension (T, C, Z, Y, X, S for the samples of RGB), where the file does not say it.
    channel : str or int, optional
        Name or index (from 0) of the channel to segment.
    z : str, optional
        ``each``: every plane of a Z stack on its own; ``max``: the maximum over them.

    Raises
    ------
    InputsError
        One of them can be no file's.
    """

    axes: str | None = None
    channel: str | int | None = None
    z: str | None = None

    def __post_init__(self) -> None:
        if self.axes is not None:
            unknown = sorted(set(self.axes) - set(AXES))
            if unknown or len(set(self.axes)) < len(self.axes) or "YX" not in self.axes.replace("C", ""):
                raise InputsError(
                    f"axes {self.axes!r}: expected a letter a dimension, each once, out of T (time), C (channel), "
                    "Z (depth), Y (rows), X (columns) and S (samples of a colour), with X behind Y, such as TYX or CZYX"
                )
        if self.channel == "" or (isinstance(self.channel, int) and self.channel < 0):
            raise InputsError(f"channel {self.channel!r}: expected a name, or an index from 0")
        if self.z is not None and self.z not in Z_CHOICES:
            raise InputsError(f"z {self.z!r}: expected {' or '.join(Z_CHOICES)}")


@dataclass(frozen=True, eq=False)
class Plane:
    """One grey or colour image of a file, not yet read.

    Attributes
    ----------
    time, z : int, optional
        Which of a file's planes it is, counted from 0; None where the file has no such axis.
    shape : tuple of int
        (H, W), (H, W, 3) or (H, W, 4).
    dtype : dtype
    pixel_size_um : (float, float), optional
        Height and width of a pixel in micrometres, where the file tells.
    read : callable
        ``read(rows, columns)``: the pixels of a region, two slices with whole starts and stops within the image.
        Raises as `nuclei_runtime.reading.read_image` does.
    reads_blocks : bool
        Whether a region costs no more memory than the region; otherwise the first one reads the whole plane.
    channels_together : int
        How many channels, or colours, are decoded for each that `read` returns, because they lie together in the file.
    """

    time: int | None
    z: int | None
    shape: tuple[int, ...]
    dtype: DTypeLike
    pixel_size_um: tuple[float, float] | None
    read: Callable[[slice, slice], Image]
    reads_blocks: bool
    channels_together: int = 1

    @property
    def suffix(self) -> str:
        """What tells the plane's results from those of the file's other planes, such as ``_t003_z01``; or nothing."""
        parts = [f"_{letter}{index:03d}" for letter, index in (("t", self.time), ("z", self.z)) if index is not None]
        return "".join(parts)


def plane_of(image: Image) -> Plane:
    """Return an image in memory as a plane."""
    return Plane(None, None, image.shape, image.dtype, None, lambda rows, columns: image[rows, columns], True)


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
        See `nuclei_runtime.reading.read_image`; also, what a dimension means, which channel, or what of a Z stack is
        neither in the file nor in `selection`. The message names the choices.
    """
    with ExitStack() as resources:
        with _only_image_errors():
            planes = _find(source, selection, resources)
        lock = Lock()  # the planes share a file, which stands at one place at a time
        yield [replace(plane, read=_guarded(plane.read, lock)) for plane in planes]


def _find(source: str | os.PathLike[str] | bytes, selection: Selection, resources: ExitStack) -> list[Plane]:
    from nuclei_runtime.axes import find_planes

    stack = _open_stack(source, resources)
    # What lies behind X comes pixel by pixel, all of it, whatever is kept.
    together = prod(stack.shape[stack.axes.index("X") + 1 :])
    planes = find_planes(stack, selection)
    return [replace(plane, channels_together=together // prod(plane.shape[2:])) for plane in planes]


def _open_stack(source: str | os.PathLike[str] | bytes, resources: ExitStack) -> Stack:
    if not isinstance(source, bytes) and _is_folder(source):
        from nuclei_runtime.zarr_planes import open_zarr

        return open_zarr(Path(source))
    file = resources.enter_context(io.BytesIO(source) if isinstance(source, bytes) else _open(source))
    start = file.read(4)
    if not start:
        raise ImageReadError("the file is empty (0 bytes)")
    from nuclei_runtime.tiff_directories import TIFF_SIGNATURES

    if start in TIFF_SIGNATURES:
        from nuclei_runtime.tiff_planes import open_tiff

        return open_tiff(file, resources)
    from nuclei_runtime.pillow_images import open_picture_file

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
