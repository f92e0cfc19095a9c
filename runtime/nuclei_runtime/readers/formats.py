"""The image formats, one row each. The rest of the code knows no more about a format than its row.

To add a format, write one module with an `Opener` and add one row to `FORMATS`. A row without an opener is a format
that is known but not read: its files count as failed images, where they would otherwise be passed over.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path, PurePath
from typing import BinaryIO

from nuclei_runtime.readers.format import Format

_HERE = "nuclei_runtime.readers"
_PICTURES = f"{_HERE}.pictures:open_picture"
_PLATES = f"{_HERE}.plates"

_EXPORT = "export the image as OME-TIFF or OME-Zarr, for example with Bio-Formats in Fiji or with bioformats2raw"
_SAVE = "save the image as PNG or TIFF"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_JPEG = (b"\xff\xd8\xff",)
_JPEG_2000 = (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")
_OLE = (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",)  # Microsoft's compound file, in which spreadsheets are stored too

FORMATS = (
    Format("PNG", (".png",), _PICTURES, first_bytes=(b"\x89PNG\r\n\x1a\n",)),
    Format("JPEG", (".jpg", ".jpeg"), _PICTURES, first_bytes=_JPEG),
    Format("BMP", (".bmp",), _PICTURES, first_bytes=(b"BM",)),
    Format(
        "TIFF",
        (".tif", ".tiff", ".btf", ".tf2", ".tf8", ".lsm", ".stk", ".svs", ".ndpi", ".scn", ".qptiff"),
        f"{_HERE}.tiff.contents:open_tiff",
        first_bytes=_TIFF,
    ),
    Format("Zeiss CZI", (".czi",), f"{_HERE}.czi:open_czi", (b"ZISRAWFILE",), extra=("pylibCZIrw", "czi")),
    Format("Nikon ND2", (".nd2",), f"{_HERE}.nd2:open_nd2", (b"\xda\xce\xbe\x0a",), extra=("nd2", "nd2")),
    Format(
        "Leica LIF",
        (".lif",),
        f"{_HERE}.lif:open_lif",
        first_bytes=(b"p\0\0\0",),
        needs_suffix=True,
        extra=("liffile", "lif"),
    ),
    # What marks it is not at its beginning.
    Format("DeltaVision DV", (".dv",), f"{_HERE}.deltavision:open_dv", needs_suffix=True, extra=("mrc", "dv")),
    Format(
        "Olympus OIB",
        (".oib",),
        f"{_HERE}.olympus:open_oib",
        first_bytes=_OLE,
        needs_suffix=True,
        extra=("oiffile", "olympus"),
    ),
    Format(
        "Olympus OIF",
        (".oif",),
        f"{_HERE}.olympus:open_oif",
        needs_suffix=True,
        companion="{name}.files",
        extra=("oiffile", "olympus"),
    ),
    # The file itself holds only an overview, in a format of its own.
    Format(
        "Olympus VSI",
        (".vsi",),
        f"{_HERE}.vsi:open_vsi",
        first_bytes=_TIFF,
        needs_suffix=True,
        companion="_{stem}_",
        extra=("slideio", "slides"),
    ),
    Format(
        "MIRAX MRXS",
        (".mrxs",),
        f"{_HERE}.openslide:open_slide",
        first_bytes=_JPEG,
        needs_suffix=True,
        companion="{stem}",
        extra=("openslide", "slides"),
    ),
    # tifffile does not put its overlapping tiles together.
    Format(
        "Ventana BIF",
        (".bif",),
        f"{_HERE}.openslide:open_slide",
        first_bytes=_TIFF,
        needs_suffix=True,
        extra=("openslide", "slides"),
    ),
    Format(
        "OME-Zarr",
        (".zarr",),
        f"{_HERE}.ome_zarr:open_zarr",
        marker_files=("zarr.json", ".zgroup"),
        plate=f"{_PLATES}.ome_zarr_plate:zarr_fields",
        indexes=("zarr.json", ".zgroup", ".zattrs"),
        extra=("zarr", "zarr"),
    ),
    Format(
        "ImageXpress plate",
        (),
        marker_files=("*.HTD",),
        plate=f"{_PLATES}.imagexpress:imagexpress_fields",
        indexes=("*.htd",),
    ),
    Format(
        "Operetta plate",
        (),
        marker_files=("Images/Index.idx.xml", "Index.idx.xml", "Images/Index.xml", "Index.xml"),
        marker_text=b"EvaluationInputData",
        plate=f"{_PLATES}.harmony:harmony_fields",
        indexes=("index.idx.xml", "index.xml"),
    ),
    Format(
        "CellVoyager plate",
        (),
        marker_files=("MeasurementData.mlf",),
        plate=f"{_PLATES}.cellvoyager:cellvoyager_fields",
        indexes=("measurementdata.mlf", "measurementdetail.mrf", "*.mes"),
    ),
    # Known, but not read.
    Format("Zeiss ZVI", (".zvi",), first_bytes=_OLE, needs_suffix=True, advice=_EXPORT),
    Format("Nikon ND2 of before 2007", (".nd2",), first_bytes=_JPEG_2000, needs_suffix=True, advice=_EXPORT),
    Format("Leica LOF", (".lof",), first_bytes=(b"p\0\0\0",), needs_suffix=True, advice=_EXPORT),
    Format("Olympus OIR", (".oir",), first_bytes=(b"OLYMPUSRAWFORMAT",), advice=_EXPORT),
    Format("Imaris IMS", (".ims",), first_bytes=(b"\x89HDF\r\n\x1a\n",), needs_suffix=True, advice=_EXPORT),
    Format("DICOM", (".dcm", ".dicom"), needs_suffix=True, advice=_EXPORT),
    # The first directory of many raw files is a thumbnail.
    Format("camera raw", (".cr2", ".nef", ".dng", ".arw", ".pef"), first_bytes=_TIFF, needs_suffix=True, advice=_SAVE),
    Format("camera raw", (".cr3", ".orf", ".raf", ".rw2"), needs_suffix=True, advice=_SAVE),
    Format("HEIF", (".heic", ".heif", ".avif"), needs_suffix=True, advice=_SAVE),
    Format("JPEG 2000", (".jp2", ".j2k", ".jpx"), first_bytes=_JPEG_2000, advice=_SAVE),
    Format("WebP", (".webp",), first_bytes=(b"RIFF",), needs_suffix=True, advice=_SAVE),
    Format("GIF", (".gif",), first_bytes=(b"GIF87a", b"GIF89a"), advice=_SAVE),
)

_MIN_TELLING_BYTES = 3
"""In a folder, fewer first bytes do not make a file an image: many texts begin with ``BM``."""

_UNFINISHED = frozenset((".tmp", ".temp", ".part", ".partial", ".filepart", ".crdownload", ".download", ".bak"))
"""Suffixes of files that are still being written or copied, and of second copies: no images, whatever they contain."""


def image_suffixes() -> tuple[str, ...]:
    """Return the suffixes, in lower case, of files that are read as images in a folder."""
    return tuple(suffix for form in FORMATS if not form.is_folder and form.is_read for suffix in form.suffixes)


def format_names(*, folders: bool) -> str:
    """Return for messages the names of the formats that are read whose images are folders, or files."""
    names = list(dict.fromkeys(form.name for form in FORMATS if form.is_folder is folders and form.is_read))
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def has_folder_suffix(name: str) -> bool:
    """Whether the suffix of a name marks a folder that is one image rather than a folder of images."""
    return any(PurePath(name).suffix.lower() in form.suffixes for form in FORMATS if form.is_folder)


def format_of_folder(path: Path) -> Format | None:
    """Return the format of a folder that is one image, by its suffix or its contents; None for any other folder."""
    return next((form for form in FORMATS if form.is_folder and form.marks(path)), None)


def is_index_file(name: str) -> bool:
    """Whether a file has the name of one that says what a folder holds."""
    name = PurePath(name).name.lower()
    return any(fnmatchcase(name, pattern) for form in FORMATS for pattern in form.indexes)


def needs_others(name: str) -> bool:
    """Whether a file of this name needs others beside it: it is the index of a plate, or the head of an image."""
    suffix = PurePath(name).suffix.lower()
    return is_index_file(name) or any(form.companion and suffix in form.suffixes for form in FORMATS)


def companion_of(path: Path) -> Path | None:
    """Return the folder beside a file that holds its pixels, if its format has such a folder and it exists."""
    for form in FORMATS:
        if form.companion and path.suffix.lower() in form.suffixes:
            folder = path.with_name(form.companion.format(stem=path.stem, name=path.name))
            return folder if folder.is_dir() else None
    return None


def format_of_file(file: BinaryIO, name: str = "") -> Format | None:
    """Return the format of a file by its first bytes, or None; the file is at its start before and after.

    Parameters
    ----------
    file : BinaryIO
    name : str
        Its name, for the formats that need their suffix.
    """
    start = file.read(n_first_bytes())
    file.seek(0)
    return _format_of_start(start, name)


def format_in_folder(path: Path) -> Format | None:
    """Return the format of a file in a folder that is searched, or None if it is no image.

    The suffix of a format that can be read is enough, so that few files are opened and an empty or damaged image is not
    passed over. Any other file is an image if its first bytes say so.
    """
    named = _named(path.name)
    if is_told_by_name(path.name):
        return named
    try:
        status = path.stat()
        start = _start_of(path, status.st_size, status.st_mtime_ns)
    except (OSError, ValueError):  # nothing but its name says what it is
        return named
    form = _format_of_start(start, path.name)
    telling = () if form is None else tuple(first for first in form.first_bytes if len(first) >= _MIN_TELLING_BYTES)
    return form if start.startswith(telling) else named


def is_told_by_name(name: str) -> bool:
    """Whether `format_in_folder` needs no more than the name of this file."""
    named, suffix = _named(name), PurePath(name).suffix.lower()
    return (named is not None and named.obstacle is None) or suffix in _UNFINISHED or suffix.endswith("~")


def _named(name: str) -> Format | None:
    suffix = PurePath(name).suffix.lower()
    return next((form for form in FORMATS if not form.is_folder and suffix in form.suffixes), None)


@lru_cache(maxsize=1 << 16)
def _start_of(path: Path, _size: int, _changed_ns: int) -> bytes:
    """Return the first bytes of a file in this state; a watch looks at the same files again and again."""
    with path.open("rb") as file:
        return file.read(n_first_bytes())


def _format_of_start(start: bytes, name: str) -> Format | None:
    suffix = PurePath(name).suffix.lower()
    rows = [form for form in FORMATS if form.begins(start, suffix)] if start else []
    return min(rows, key=lambda form: (not form.first_bytes, not form.needs_suffix), default=None)


def n_first_bytes() -> int:
    """Return how many of a file's first bytes say what it is."""
    return max(len(first) for form in FORMATS for first in form.first_bytes)
