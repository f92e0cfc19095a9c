"""The image formats that can be read, one row each. The rest of the code knows no more about a format than its row.

To add a format, write one module with an `Opener` and add one row to `FORMATS`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path, PurePath
from typing import BinaryIO, cast

from nuclei_runtime.errors import MissingExtraError
from nuclei_runtime.readers.scenes import Contents

Opener = Callable[[BinaryIO | Path, ExitStack], Contents]
"""Takes a file, positioned at its start, or the path of a folder, and returns its contents. What has to be closed later
is entered into the stack of resources. Raises what `nuclei_runtime.readers.opening.read_image` raises."""


@dataclass(frozen=True)
class Format:
    """An image format.

    Attributes
    ----------
    name : str
        For messages.
    suffixes : tuple of str
        In lower case. In a folder that is searched, a name with one of these suffixes counts as an image.
    opener : str
        The `Opener` as ``module:name``. It is imported when the first image of the format is opened.
    first_bytes : tuple of bytes
        A file that begins with one of these is of this format, whatever its suffix.
    marker_files : tuple of str
        For a format whose images are folders: a folder that holds one of these files, or has one of the suffixes, is of
        this format.
    extra : tuple of (str, str), optional
        The package that the opener needs and the extra that installs it.
    """

    name: str
    suffixes: tuple[str, ...]
    opener: str
    first_bytes: tuple[bytes, ...] = ()
    marker_files: tuple[str, ...] = ()
    extra: tuple[str, str] | None = None

    @property
    def is_folder(self) -> bool:
        """Whether an image of this format is a folder."""
        return bool(self.marker_files)

    def open(self, source: BinaryIO | Path, resources: ExitStack) -> Contents:
        """Return the contents of an image of this format.

        Raises
        ------
        MissingExtraError
            The package that the format needs is not installed.
        ImageReadError, ImageShapeError
            See `nuclei_runtime.readers.opening.read_image`.
        """
        if self.extra is not None and find_spec(self.extra[0]) is None:
            raise MissingExtraError(*self.extra)
        module, _, name = self.opener.partition(":")
        return cast(Opener, getattr(import_module(module), name))(source, resources)


_PICTURES = "nuclei_runtime.readers.pictures:open_picture"

FORMATS = (
    Format("PNG", (".png",), _PICTURES, first_bytes=(b"\x89PNG\r\n\x1a\n",)),
    Format("JPEG", (".jpg", ".jpeg"), _PICTURES, first_bytes=(b"\xff\xd8\xff",)),
    Format("BMP", (".bmp",), _PICTURES, first_bytes=(b"BM",)),
    Format(
        "TIFF",
        (".tif", ".tiff"),
        "nuclei_runtime.readers.tiff.stack:open_tiff",
        first_bytes=(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    ),
    Format("CZI", (".czi",), "nuclei_runtime.readers.czi:open_czi", (b"ZISRAWFILE",), extra=("pylibCZIrw", "czi")),
    Format("ND2", (".nd2",), "nuclei_runtime.readers.nd2:open_nd2", (b"\xda\xce\xbe\x0a",), extra=("nd2", "nd2")),
    Format(
        "LIF",
        (".lif",),
        "nuclei_runtime.readers.lif:open_lif",
        first_bytes=(b"\x70\0\0\0",),
        extra=("liffile", "lif"),
    ),
    Format(
        "OME-Zarr",
        (".zarr",),
        "nuclei_runtime.readers.ome_zarr:open_zarr",
        marker_files=("zarr.json", ".zgroup"),
        extra=("zarr", "zarr"),
    ),
)


def image_suffixes() -> tuple[str, ...]:
    """Return the suffixes, in lower case, of files that count as images in a folder."""
    return tuple(suffix for form in FORMATS if not form.is_folder for suffix in form.suffixes)


def format_names(*, folders: bool) -> str:
    """Return for messages the names of the formats whose images are folders, or of those whose images are files."""
    names = [form.name for form in FORMATS if form.is_folder is folders]
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def has_folder_suffix(name: str) -> bool:
    """Whether the suffix of a name marks a folder that is one image rather than a folder of images."""
    return any(PurePath(name).suffix.lower() in form.suffixes for form in FORMATS if form.is_folder)


def format_of_folder(path: Path) -> Format | None:
    """Return the format of a folder that is one image, by its suffix or its contents; None for any other folder."""
    for form in FORMATS:
        if form.is_folder and (
            path.suffix.lower() in form.suffixes or any(_is_file(path / name) for name in form.marker_files)
        ):
            return form
    return None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # no permission
        return False


def format_of_file(file: BinaryIO) -> Format | None:
    """Return the format of a file by its first bytes, or None; the file is at its start before and after."""
    start = file.read(max(len(first) for form in FORMATS for first in form.first_bytes))
    file.seek(0)
    return next((form for form in FORMATS if start.startswith(form.first_bytes)), None) if start else None
