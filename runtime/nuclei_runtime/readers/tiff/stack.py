"""Reads TIFF, OME-TIFF and BigTIFF as a stack whose regions can be read, with its metadata.

tifffile finds the pages of OME-TIFFs, of those of ImageJ and of its own; any other TIFF is a sequence of equal pages.
What tifffile alone cannot decode goes through imagecodecs (extra `codecs`) or, as whole pages, through Pillow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import lru_cache
from math import prod
from typing import Any, BinaryIO

import numpy as np

from nuclei_runtime.arrays import Image, check_form
from nuclei_runtime.errors import ImageReadError, ImageShapeError
from nuclei_runtime.readers.axes import UNKNOWN, Stack
from nuclei_runtime.readers.bounds import check_claim
from nuclei_runtime.readers.pixel_size import PixelSize, from_imagej, from_tiff
from nuclei_runtime.readers.plane import AXES
from nuclei_runtime.readers.tiff.directories import Directory, walk_directories
from nuclei_runtime.readers.tiff.ome_xml import OmeImage, read_ome
from nuclei_runtime.readers.tiff.pillow_pages import PillowPages
from nuclei_runtime.readers.tiff.segments import Segments, is_decodable
from nuclei_runtime.wording import counted

# Tags and values of the TIFF 6.0 specification, section 8 (baseline), 18 (associated alpha) and 21 (YCbCr).
_PHOTOMETRIC = 262
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _YCBCR = 0, 1, 2, 6
_JPEG = 7
_ALPHA = ((1,), (2,))
_OWN_FORMATS = {33629: "a MetaMorph stack", 34412: "a Zeiss LSM file"}
"""Private tags (UIC2Tag, CZ_LSMINFO) of formats that use pages and directories differently from TIFF."""

_KINDS = ("shaped", "ome", "imagej")
"""The kinds whose layout comes from tifffile, in the order of its own checks; a file may be of two kinds."""

_Frames = Callable[[int], Any]


def open_tiff(file: BinaryIO, resources: ExitStack) -> Stack:
    """Return the contents of a TIFF, which is closed with `resources`.

    Raises
    ------
    ImageReadError, ImageShapeError
        See `nuclei_runtime.readers.opening.read_image`.
    """
    import tifffile

    directories = walk_directories(file)
    for code in _OWN_FORMATS.keys() & directories[0].codes:
        raise ImageReadError(f"the file is {_OWN_FORMATS[code]}, which is not supported; export it as OME-TIFF")
    file.seek(0)
    # Disable the formats for which tifffile would open other files or trust tables of unbounded size.
    flags: dict[str, Any] = {f"is_{kind}": False for kind in tifffile.TIFF.FILE_FLAGS if kind not in _KINDS}
    tiff: Any = resources.enter_context(tifffile.TiffFile(file, **flags))
    kind = next((kind for kind in _KINDS if getattr(tiff, f"is_{kind}")), None)
    ome = read_ome(tiff.ome_metadata, len(directories)) if kind == "ome" else OmeImage((), None)
    lead_axes, lead, keyframe, frames = (
        _row_of_pages(tiff, directories) if kind is None else _series(tiff, kind, directories)
    )
    if lost := [code for code, _ in directories[keyframe.index].layout if code not in keyframe.tags]:
        # The value lies beyond the end of the file; tifffile would use the default.
        raise ImageReadError(f"the TIFF is truncated or damaged: tag {lost[0]} cannot be read")
    if keyframe.imagedepth != 1:
        raise ImageShapeError("the TIFF holds volumes in single pages, which is not supported; save it as OME-TIFF")
    n_planes = prod(lead)
    contiguous = n_planes > 1 and len(directories) == 1
    check_claim("TIFF", n_planes * keyframe.nbytes, file.seek(0, 2))
    if keyframe.is_tiled:  # a tile may be far larger than the page
        n_bytes = (
            keyframe.tilelength * keyframe.tilewidth * keyframe.shaped[4] * np.dtype(keyframe.dtype or bool).itemsize
        )
        check_claim("TIFF's tile", n_bytes, file.seek(0, 2))
    check_form(keyframe.shaped[2:4], np.dtype(keyframe.dtype or bool))
    inner_axes, inner, dtype, read_page, reads_blocks = _reader(file, keyframe, contiguous=contiguous)

    recent = lru_cache(maxsize=16)(frames)  # the offsets of a page may be a million numbers

    def read(index: tuple[int, ...], rows: slice, columns: slice) -> Image:
        n = int(np.ravel_multi_index(index[: len(lead)], lead)) if lead else 0
        frame = keyframe if contiguous else recent(n)
        return read_page(frame, n, index[len(lead) :], rows, columns)

    return Stack(
        axes=_known(lead_axes) + inner_axes,
        shape=(*lead, *inner),
        dtype=dtype,
        channels=ome.channels if kind == "ome" else _imagej_channels(tiff, lead_axes, lead),
        pixel_size_um=ome.pixel_size_um if kind == "ome" else _pixel_size(tiff, kind, keyframe),
        read=read,
        reads_blocks=reads_blocks,
    )


def _row_of_pages(tiff: Any, directories: Sequence[Directory]) -> tuple[str, tuple[int, ...], Any, _Frames]:
    """Take the pages in order, except those that are smaller copies."""
    pages = [i for i, page in enumerate(directories) if not page.is_reduced] or [0]
    n_kinds = len({directories[i].layout for i in pages})
    if n_kinds > 1:
        raise ImageShapeError(f"the file holds {n_kinds} image series; save the one to segment as a file of its own")
    tiff.pages.set_keyframe(pages[0])
    tiff.pages.useframes = True
    keyframe = tiff.pages.keyframe
    lead = (len(pages),) if len(pages) > 1 else ()
    return UNKNOWN * len(lead), lead, keyframe, lambda n: tiff.pages[pages[n]]


def _series(tiff: Any, kind: str, directories: Sequence[Directory]) -> tuple[str, tuple[int, ...], Any, _Frames]:
    """Follow the metadata as tifffile reads it, and refuse it where it contradicts the pages."""
    series = [one for one in tiff.series if not (one.keyframe.is_reduced or one.keyframe.is_subifd)]
    if len(series) != 1:
        raise ImageShapeError(
            f"the file holds {len(series)} image series; save the one to segment as a file of its own"
        )
    (whole,) = series
    if whole.kind != kind:
        raise ImageReadError(f"the file's {kind} metadata contradict its pages; export the image again")
    keyframe, axes, shape = whole.keyframe, whole.get_axes(False), whole.get_shape(False)
    if 0 in keyframe.shape:
        raise ImageShapeError(f"found an array of shape {keyframe.shape}, which has no pixels")
    split, size = len(shape), 1
    while split and (size < keyframe.size or not set("YX") <= set(axes[split:])):
        split -= 1
        size *= shape[split]
    n_planes = prod(shape[:split])
    if size != keyframe.size or _lengths(axes[split:], shape[split:]) != _lengths(keyframe.axes, keyframe.shape):
        raise ImageReadError(f"the metadata of the file say shape {shape}, but its pages are {keyframe.shape}")
    if n_planes > 1 and len(directories) == 1:
        if not keyframe.is_final:
            raise ImageReadError(f"the TIFF is damaged: its only page is said to hold {counted(n_planes, 'plane')}")
    else:
        numbers = [_page_number(whole, n, directories) for n in range(n_planes)]
        if any(directories[n].layout != directories[keyframe.index].layout for n in numbers):
            raise ImageReadError("the pages of the stack differ in size or type; save it as OME-TIFF")
    return axes[:split], shape[:split], keyframe, lambda n: whole[n]


def _lengths(axes: str, shape: Sequence[int]) -> list[int]:
    return [n for axis, n in zip(axes, shape, strict=True) if n != 1 or axis in "YX"]


def _page_number(series: Any, n: int, directories: Sequence[Directory]) -> int:
    try:
        page = series[n]
    except IndexError:
        page = None
    if page is None or not 0 <= page.index < len(directories):
        raise ImageReadError(f"plane {n} of the stack is not in the file, which may be truncated or one of several")
    return int(page.index)


def _known(axes: str) -> str:
    return "".join(axis if axis in AXES else UNKNOWN for axis in axes)


def _reader(
    file: BinaryIO, page: Any, *, contiguous: bool
) -> tuple[str, tuple[int, ...], Any, Callable[..., Image], bool]:
    """Return the axes, lengths and type of a page, a function that reads it, and whether that reads mere regions."""
    apart, _, height, width, together = page.shaped
    samples = max(apart, together)
    photometric = page.tags[_PHOTOMETRIC].value if _PHOTOMETRIC in page.tags else _BLACK_IS_ZERO
    is_jpeg_colour = photometric == _YCBCR and page.compression == _JPEG and together == 3
    is_plain = photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB) or is_jpeg_colour
    is_colour = photometric == _RGB or is_jpeg_colour
    if is_colour and samples not in (1, 3, 4):
        raise ImageShapeError(f"the TIFF holds RGB of {samples} samples per pixel, expected 3 or 4; save it as RGB")
    is_grey = photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO)
    has_channels = samples > 1 and is_grey and not (samples == 2 and page.extrasamples in _ALPHA)
    if page.dtype is None or not is_plain or not is_decodable(page):
        if has_channels:  # Pillow would return only the first, or take them as colours
            raise ImageReadError(
                f"the {samples} channels in one page of the TIFF are compressed in a way that cannot be decoded; save "
                'it uncompressed, or try with more codecs: pip install "nuclei-edge[codecs]"'
            )
        pillow = PillowPages(file, page, photometric)
        axes = "YXS" if len(pillow.shape) == 3 else "YX"
        return axes, pillow.shape, pillow.dtype, lambda frame, _n, _index, y, x: pillow.read(frame.index)[y, x], False
    segments = Segments(file, page, contiguous=contiguous)
    inverts = photometric == _WHITE_IS_ZERO and page.dtype != bool  # tifffile writes masks this way but still means 1

    def read(frame: Any, n: int, index: tuple[int, ...], rows: slice, columns: slice) -> Image:
        at = index[0] if has_channels else 0
        if is_colour and apart > 1:
            image = np.concatenate([segments.read(frame, n, i, rows, columns) for i in range(apart)], axis=2)
        elif apart > 1:
            image = segments.read(frame, n, at, rows, columns, 0)
        else:
            image = segments.read(frame, n, 0, rows, columns, None if is_colour and together > 1 else at)
        if inverts:
            image = -image if image.dtype.kind == "f" else np.invert(image)
        return image

    axes, lengths = "YX", [height, width]
    if is_colour and samples > 1:
        axes, lengths = "YXS", [height, width, samples]
    elif has_channels:
        axes, lengths = ("CYX", [apart, height, width]) if apart > 1 else ("YXC", [height, width, together])
    return axes, tuple(lengths), page.dtype, read, segments.reads_blocks


def _imagej_channels(tiff: Any, axes: str, lead: tuple[int, ...]) -> tuple[str, ...]:
    """Return the slice labels of ImageJ if the slices are just the channels."""
    labels = (tiff.imagej_metadata or {}).get("Labels", ()) if tiff.is_imagej else ()
    long = [(axis, n) for axis, n in zip(axes, lead, strict=True) if n > 1]
    return tuple(map(str, labels)) if long == [("C", len(labels))] and len(set(labels)) == len(labels) else ()


def _pixel_size(tiff: Any, kind: str | None, keyframe: Any) -> PixelSize | None:
    if kind == "imagej":
        return from_imagej(tiff.imagej_metadata or {}, keyframe.tags)
    return from_tiff(keyframe.tags)
