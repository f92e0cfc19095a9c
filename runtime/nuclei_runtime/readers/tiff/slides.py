"""TIFFs of slide scanners: SVS of Aperio, NDPI of Hamamatsu, SCN of Leica, QPTIFF of Akoya. tifffile finds their pages.

Only the scanned tissue is an image: the label, the overview of the slide and the thumbnail never are. Needs the codecs
of the extra `slides`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, BinaryIO
from xml.etree import ElementTree

from nuclei_runtime.errors import ImageReadError, MissingExtraError
from nuclei_runtime.readers.axes import Stack
from nuclei_runtime.readers.pixel_size import PixelSize, from_tiff, in_micrometres
from nuclei_runtime.readers.scenes import Contents, Scene
from nuclei_runtime.readers.tiff.directories import Directory
from nuclei_runtime.readers.tiff.segments import has_imagecodecs
from nuclei_runtime.readers.tiff.stack import pages_of_series, stack_of

SLIDES = ("svs", "ndpi", "scn", "qpi")
"""As tifffile calls them."""

_MPP = re.compile(r"\|\s*MPP\s*=\s*([0-9.]+)")
"""Micrometres per pixel in the description of an SVS (Aperio, Digital Slides and Third-Party Data Interchange)."""


def slide_scenes(file: BinaryIO, tiff: Any, kind: str, directories: Sequence[Directory]) -> Contents:
    """Return the scanned areas of a slide, each with its levels.

    Raises
    ------
    MissingExtraError
        Without imagecodecs, hardly a slide can be decoded.
    ImageReadError, ImageShapeError
        See `nuclei_runtime.readers.opening.read_image`.
    """
    if not has_imagecodecs():
        raise MissingExtraError("imagecodecs", "slides")
    series = tiff.series
    if not series or series[0].kind != kind:
        raise ImageReadError("the metadata of the slide contradict its pages; it may be truncated")
    if kind == "scn":
        areas = _scn_areas(tiff.pages.first.description)
        if len(areas) != len(series):
            raise ImageReadError("the metadata of the SCN contradict its pages")
        scans = [(one, name, size) for one, (name, size, is_scan) in zip(series, areas, strict=True) if is_scan]
    else:
        scans = [(series[0], "", _finest(kind, series[0].keyframe))]
    return [Scene(name, partial(_with_levels, file, tiff, kind, directories, scan, size)) for scan, name, size in scans]


def _with_levels(
    file: BinaryIO, tiff: Any, kind: str, directories: Sequence[Directory], scan: Any, size: PixelSize | None
) -> Stack:
    channels = _qpi_channels(scan) if kind == "qpi" else ()
    levels = []
    for level in scan.levels:
        pages = pages_of_series(level, directories)
        page, finest = pages.keyframe, scan.keyframe
        coarser = (finest.imagelength / page.imagelength, finest.imagewidth / page.imagewidth)
        scaled = (size[0] * coarser[0], size[1] * coarser[1]) if size else None
        levels.append(stack_of(file, tiff, directories, pages, channels, scaled))
    return replace(levels[0], coarser=tuple(levels[1:]))


def _finest(kind: str, page: Any) -> PixelSize | None:
    if kind != "svs":
        return from_tiff(page.tags)
    found = _MPP.search(page.description)
    return in_micrometres((float(found[1]), float(found[1])), ("um", "um")) if found else None


def _qpi_channels(scan: Any) -> tuple[str, ...]:
    """Return the names of the channels; the XML of each says that it is UTF-16, but TIFF stores 8 bits."""
    names = []
    for page in scan.pages:
        text = page.description
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            return ()
        try:
            root = ElementTree.fromstring(re.sub(r"^\s*<\?xml[^>]*\?>", "", text))
        except ElementTree.ParseError:
            return ()
        names.append(root.findtext("Name") or root.findtext("Biomarker") or "")
    return tuple(names) if len(names) > 1 and all(names) else ()


def _scn_areas(xml: str) -> list[tuple[str, PixelSize | None, bool]]:
    """Return the name, the pixel size and whether it is a scan, for each image: the overview shows the whole slide."""
    if "<!DOCTYPE" in xml or "<!ENTITY" in xml:
        raise ImageReadError("the metadata of the SCN were refused: they declare a document type")
    found = []
    for collection in ElementTree.fromstring(xml).iterfind("{*}collection"):
        whole = (collection.get("sizeX"), collection.get("sizeY"))
        for image in collection.iterfind("{*}image"):
            view, pixels = image.find("{*}view"), image.find("{*}pixels")
            if view is None or pixels is None:
                raise ImageReadError("the metadata of the SCN are incomplete")
            # A view is measured in nanometres.
            spans = [int(view.get(f"size{axis}", 0)) / int(pixels.get(f"size{axis}", 0)) for axis in "YX"]
            is_scan = (view.get("sizeX"), view.get("sizeY")) != whole
            found.append((image.get("name", ""), in_micrometres(spans, ("nm", "nm")), is_scan))
    return found
