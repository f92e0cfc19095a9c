"""Opens TIFF, OME-TIFF and BigTIFF: decides by whose rules a file is written, and which of its pages make up an image.

The OME-XML says where the planes of an OME-TIFF are; tifffile finds those of ImageJ, of its own, and of microscopes and
slide scanners; any other TIFF is a sequence of equal pages, or several.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any, BinaryIO

from nuclei_runtime.errors import ImageReadError
from nuclei_runtime.faults import is_of_machine
from nuclei_runtime.readers.axes import Stack
from nuclei_runtime.readers.pixel_size import PixelSize, from_imagej, from_tiff
from nuclei_runtime.readers.scenes import Contents, Scene
from nuclei_runtime.readers.tiff.directories import Directory, walk_directories
from nuclei_runtime.readers.tiff.microscopes import MICROSCOPES, microscope_scenes, plane_pixel_size
from nuclei_runtime.readers.tiff.ome_xml import OmeImage, read_ome
from nuclei_runtime.readers.tiff.slides import SLIDES, slide_scenes
from nuclei_runtime.readers.tiff.stack import Pages, numbered_pages, pages_of_level, pages_of_series, stack_of

_KINDS = ("shaped", "ome", "imagej")
"""The kinds whose layout comes from tifffile, in the order of its own checks; a file may be of two kinds."""

_WRITERS = {"shaped": "tifffile", "ome": "OME", "imagej": "ImageJ"}

_POSITION = re.compile(r"c:\d+/\d+")
"""Begins the slice labels of files that Bio-Formats opened in ImageJ: ``c:1/3 - NAME.czi`` says where, not what."""

_SUB_IFDS = 330
_OWN_TAGS = {33629: ("stk", "a MetaMorph stack"), 34412: ("lsm", "a Zeiss LSM file")}
"""Private tags (UIC2Tag, CZ_LSMINFO) of formats that use pages and directories differently from TIFF."""


def open_tiff(file: BinaryIO, resources: ExitStack) -> Contents:
    """Return the contents of a TIFF, which is closed with `resources`.

    Raises
    ------
    ImageReadError, ImageShapeError
        See `nuclei_runtime.readers.opening.read_image`.
    """
    import tifffile

    directories = walk_directories(file)
    file.seek(0)
    # Disable the formats for which tifffile would open other files or trust tables of unbounded size.
    allowed = (*_KINDS, *MICROSCOPES, *SLIDES)
    flags: dict[str, Any] = {f"is_{kind}": False for kind in tifffile.TIFF.FILE_FLAGS if kind not in allowed}
    tiff: Any = resources.enter_context(tifffile.TiffFile(file, **flags))
    kind = next((kind for kind in (*MICROSCOPES, *SLIDES, *_KINDS) if getattr(tiff, f"is_{kind}")), None)
    for code, (own, name) in _OWN_TAGS.items():
        if code in directories[0].codes and kind != own:
            raise ImageReadError(f"the file is {name} whose metadata cannot be read; it may be damaged")
    if kind in MICROSCOPES:
        return microscope_scenes(file, tiff, kind, directories)
    if kind in SLIDES:
        return slide_scenes(file, tiff, kind, directories)
    if kind == "ome":
        return _ome_images(file, tiff, directories)
    if kind is None:
        return _rows_of_pages(file, tiff, directories)
    return _series(file, tiff, kind, directories)


def _rows_of_pages(file: BinaryIO, tiff: Any, directories: Sequence[Directory]) -> Contents:
    """Take the pages in order, except those that are smaller copies; each kind of page is an image of its own."""
    numbers: dict[Any, list[int]] = {}
    for i, page in enumerate(directories):
        if not page.is_reduced:
            numbers.setdefault(page.layout, []).append(i)
    if not numbers and _SUB_IFDS in directories[0].codes:
        raise ImageReadError("the pages of the TIFF are reduced copies of an image that the file lacks")
    rows = list(numbers.values()) or [[0]]

    def open_row(row: list[int]) -> Stack:
        pages = numbered_pages(tiff, row)
        return stack_of(file, tiff, directories, pages, pixel_size_um=plane_pixel_size(pages.keyframe.tags))

    if len(rows) == 1:
        return open_row(rows[0])
    return [Scene("", partial(open_row, row)) for row in rows]


def _ome_images(file: BinaryIO, tiff: Any, directories: Sequence[Directory]) -> Contents:
    """Follow the OME-XML, and refuse it where it contradicts the pages."""

    def open_image(image: OmeImage) -> Stack:
        if len({directories[i].layout for i in image.pages}) > 1:
            raise ImageReadError("the pages of the stack differ in size or type; save it as OME-TIFF again")
        pages = numbered_pages(tiff, image.pages, image.axes, image.shape)
        found, declared = (pages.keyframe.imagelength, pages.keyframe.imagewidth), (image.height, image.width)
        if found != declared:
            raise ImageReadError(
                f"the OME-XML of the file says {declared[0]} x {declared[1]} pixels, but its pages are {found[0]} x "
                f"{found[1]}; export the image again"
            )
        finest = stack_of(file, tiff, directories, pages, image.channels, image.pixel_size_um)
        return replace(finest, coarser=tuple(coarser(image, pages)))

    def coarser(image: OmeImage, pages: Pages) -> Iterator[Stack]:
        """Yield the coarser levels that all planes have alike, up to the first that cannot be read: the finest can."""
        found = [directories[i].levels for i in image.pages]
        for level in range(min(map(len, found))):
            if len({levels[level][1].layout for levels in found}) > 1:
                return
            try:
                own = pages_of_level(tiff, image.pages, level, directories, pages)
                down, across = image.height / own.keyframe.imagelength, image.width / own.keyframe.imagewidth
                size = image.pixel_size_um
                scaled = (size[0] * down, size[1] * across) if size else None
                stack = stack_of(file, tiff, directories, own, image.channels, scaled)
            except Exception as error:  # damaged bytes make tifffile raise all kinds of exceptions
                if is_of_machine(error):
                    raise
                return
            if min(down, across) <= 1:
                return
            yield stack

    images = read_ome(tiff.ome_metadata, directories)
    return [Scene(image.name, partial(open_image, image), may_be_overview=True) for image in images]


def _series(file: BinaryIO, tiff: Any, kind: str, directories: Sequence[Directory]) -> Contents:
    series = [one for one in tiff.series if not (one.keyframe.is_reduced or one.keyframe.is_subifd)]
    if any(one.kind != kind for one in series) or not series:
        _refuse_truncated(file, tiff)
        raise ImageReadError(f"the file's {_WRITERS[kind]} metadata contradict its pages; export the image again")

    def open_series(i: int) -> Stack:
        pages = pages_of_series(series[i], directories)
        channels = _imagej_channels(tiff, pages.axes, pages.lengths)
        return stack_of(file, tiff, directories, pages, channels, _pixel_size(tiff, kind, pages.keyframe))

    if len(series) == 1:
        return open_series(0)
    return [Scene(str(one.name or ""), partial(open_series, i)) for i, one in enumerate(series)]


def _refuse_truncated(file: BinaryIO, tiff: Any) -> None:
    """Refuse a file that ends before its pixels do; with its metadata, it then also seems to contradict itself."""
    size, page = file.seek(0, 2), tiff.pages.first
    ends = [offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False)]
    n_planes = (tiff.imagej_metadata or {}).get("images") if tiff.is_imagej else None
    if isinstance(n_planes, int) and len(tiff.pages) == 1 and page.dataoffsets:  # all planes behind one page
        ends.append(page.dataoffsets[0] + n_planes * page.nbytes)
    if max(ends, default=0) > size:
        raise ImageReadError(
            f"the TIFF is truncated: its pixels reach to byte {max(ends)}, but it ends at byte {size}; copy it again"
        )


def _imagej_channels(tiff: Any, axes: str, lead: tuple[int, ...]) -> tuple[str, ...]:
    """Return the slice labels of ImageJ if the slices are just the channels, and the labels are names of them."""
    labels = tuple(map(str, (tiff.imagej_metadata or {}).get("Labels", ()))) if tiff.is_imagej else ()
    long = [(axis, n) for axis, n in zip(axes, lead, strict=True) if n > 1]
    if long != [("C", len(labels))] or len(set(labels)) < len(labels) or any(map(_POSITION.match, labels)):
        return ()
    return labels


def _pixel_size(tiff: Any, kind: str | None, keyframe: Any) -> PixelSize | None:
    if kind == "imagej":
        return from_imagej(tiff.imagej_metadata or {}, keyframe.tags)
    return from_tiff(keyframe.tags)
