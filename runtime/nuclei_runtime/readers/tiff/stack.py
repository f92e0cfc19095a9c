"""Makes a stack of pages of a TIFF, whose regions can be read.

What tifffile alone cannot decode goes through imagecodecs (extra `codecs`) or, as whole pages, through Pillow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.arrays import Image, check_form
from nuclei_runtime.errors import ImageReadError, ImageShapeError
from nuclei_runtime.readers.axes import UNKNOWN, Stack
from nuclei_runtime.readers.bounds import check_claim
from nuclei_runtime.readers.pixel_size import PixelSize
from nuclei_runtime.readers.plane import AXES
from nuclei_runtime.readers.tiff.directories import Directory
from nuclei_runtime.readers.tiff.pillow_pages import PillowPages
from nuclei_runtime.readers.tiff.segments import Segments, is_decodable
from nuclei_runtime.wording import counted

# Tags and values of the TIFF 6.0 specification, section 8 (baseline), 18 (associated alpha) and 21 (YCbCr).
_PHOTOMETRIC = 262
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6
_JPEG = 7
_ALPHA = ((1,), (2,))


@dataclass(frozen=True)
class Pages:
    """Equal pages of a TIFF that make up one image.

    Attributes
    ----------
    axes : str
        What tells the pages apart: one letter per dimension.
    lengths : tuple of int
    keyframe : tifffile.TiffPage
        The page that stands for the layout of all.
    frame : callable
        ``frame(n)`` returns page `n`, counted over all dimensions, the last one fastest.
    """

    axes: str
    lengths: tuple[int, ...]
    keyframe: Any
    frame: Callable[[int], Any]


def stack_of(
    file: BinaryIO,
    tiff: Any,
    directories: Sequence[Directory],
    pages: Pages,
    channels: tuple[str, ...] = (),
    pixel_size_um: PixelSize | None = None,
    photometric: int | None = None,
) -> Stack:
    """Return an image from its pages.

    Parameters
    ----------
    file : BinaryIO
    tiff : tifffile.TiffFile
    directories : sequence of Directory
        Of the whole file.
    pages : Pages
    channels : tuple of str
    pixel_size_um : (float, float), optional
    photometric : int, optional
        What the values of a page mean, if it is not what its tag says.

    Raises
    ------
    ImageReadError, ImageShapeError
        See `nuclei_runtime.readers.opening.read_image`.
    """
    keyframe, lead = pages.keyframe, pages.lengths
    if lost := [code for code, _ in _directory(directories, keyframe.treeindex).layout if code not in keyframe.tags]:
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
    photometric = _photometric(tiff, keyframe) if photometric is None else photometric
    inner_axes, inner, dtype, read_page, reads_blocks = _reader(file, keyframe, photometric, contiguous=contiguous)

    recent = lru_cache(maxsize=16)(pages.frame)  # the offsets of a page may be a million numbers

    def read(index: tuple[int, ...], rows: slice, columns: slice) -> Image:
        n = int(np.ravel_multi_index(index[: len(lead)], lead)) if lead else 0
        frame = keyframe if contiguous else recent(n)
        return read_page(frame, n, index[len(lead) :], rows, columns)

    return Stack(
        axes="".join(axis if axis in AXES else UNKNOWN for axis in pages.axes) + inner_axes,
        shape=(*lead, *inner),
        dtype=dtype,
        channels=channels,
        pixel_size_um=pixel_size_um,
        read=read,
        reads_blocks=reads_blocks,
    )


def numbered_pages(
    tiff: Any, numbers: Sequence[int], axes: str = UNKNOWN, lengths: tuple[int, ...] | None = None
) -> Pages:
    """Take pages of a TIFF by their numbers, which must be equal in their layout.

    Parameters
    ----------
    tiff : tifffile.TiffFile
    numbers : sequence of int
    axes : str
        What tells the pages apart.
    lengths : tuple of int, optional
        How many pages there are in each of these dimensions; without it, there is one dimension.
    """

    def frame(n: int) -> Any:
        tiff.pages.set_keyframe(numbers[0])  # another image of the file may have set its own
        tiff.pages.useframes = True
        return tiff.pages[numbers[n]]

    return Pages(axes, (len(numbers),) if lengths is None else lengths, frame(0), frame)


def _directory(directories: Sequence[Directory], index: Sequence[int]) -> Directory:
    """Return the directory of a page, or of one of its levels, by the index that tifffile gives it in the tree."""
    page, *level = index
    return directories[page].levels[level[0]][1] if level else directories[page]


def pages_of_level(
    tiff: Any, numbers: Sequence[int], level: int, directories: Sequence[Directory], like: Pages
) -> Pages:
    """Take a coarser level of pages, from their SubIFDs.

    Parameters
    ----------
    tiff : tifffile.TiffFile
    numbers : sequence of int
        Of the pages at full resolution.
    level : int
        Index of the SubIFD.
    directories : sequence of Directory
    like : Pages
        The pages at full resolution.
    """
    import tifffile

    def page(n: int, keyframe: Any = None) -> Any:
        number = numbers[n]
        tiff.filehandle.seek(directories[number].levels[level][0])
        if keyframe is None:
            return tifffile.TiffPage(tiff, (number, level))
        return tifffile.TiffFrame(tiff, (number, level), keyframe=keyframe)

    keyframe = page(0)
    return Pages(like.axes, like.lengths, keyframe, lambda n: keyframe if n == 0 else page(n, keyframe))


def pages_of_series(series: Any, directories: Sequence[Directory]) -> Pages:
    """Follow the metadata as tifffile reads it, and refuse it where it contradicts the pages.

    Raises
    ------
    ImageReadError, ImageShapeError
    """
    keyframe, axes, shape = series.keyframe, series.get_axes(False), series.get_shape(False)
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
        numbers = [_page_number(series, n, directories) for n in range(n_planes)]
        if any(directories[n].layout != directories[keyframe.index].layout for n in numbers):
            raise ImageReadError("the pages of the stack differ in size or type; save it as OME-TIFF")
    return Pages(axes[:split], shape[:split], keyframe, lambda n: series[n])


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


def _photometric(tiff: Any, page: Any) -> int:
    """Return what the values of a page mean: TIFF 6.0, tag 262.

    In ImageJ, a lookup table is a way to look at the values, whatever it makes them look like. ImageJ stores one of 8
    bits as a palette and an inverted one as 0 for white, beside the unchanged values (its TiffEncoder). In OME too, a
    palette is a false colour: the XML counts one channel.
    """
    photometric = int(page.tags[_PHOTOMETRIC].value) if _PHOTOMETRIC in page.tags else _BLACK_IS_ZERO
    is_display = (photometric == _PALETTE and (tiff.is_imagej or tiff.is_ome)) or (
        photometric == _WHITE_IS_ZERO and tiff.is_imagej
    )
    return _BLACK_IS_ZERO if is_display else photometric


def inverted(image: NDArray[Any], bits: int) -> Image:
    """Return values of so many bits, of which 0 is white, as values of which 0 is black, or the other way round."""
    if image.dtype.kind == "u":  # of a type that may have more bits
        return np.asarray(image.dtype.type((1 << bits) - 1) - image)
    return np.asarray(-image if image.dtype.kind == "f" else np.invert(image))


def _reader(
    file: BinaryIO, page: Any, photometric: int, *, contiguous: bool
) -> tuple[str, tuple[int, ...], Any, Callable[..., Image], bool]:
    """Return the axes, lengths and type of a page, a function that reads it, and whether that reads mere regions."""
    apart, _, height, width, together = page.shaped
    samples = max(apart, together)
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
        return axes, pillow.shape, pillow.dtype, lambda frame, _n, _index, y, x: pillow.read(frame)[y, x], False
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
            image = inverted(image, page.bitspersample)
        return image

    axes, lengths = "YX", [height, width]
    if is_colour and samples > 1:
        axes, lengths = "YXS", [height, width, samples]
    elif has_channels:
        axes, lengths = ("CYX", [apart, height, width]) if apart > 1 else ("YXC", [height, width, together])
    return axes, tuple(lengths), page.dtype, read, segments.reads_blocks
