"""Reads slides whose tiles overlap, which OpenSlide puts together: MRXS of MIRAX, BIF of Ventana. Needs `slides`."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from nuclei_runtime.arrays import Image
from nuclei_runtime.readers.axes import Stack
from nuclei_runtime.readers.bounds import CACHE_BYTES
from nuclei_runtime.readers.native_path import native_path
from nuclei_runtime.readers.pixel_size import in_micrometres

_OPAQUE = 255


def open_slide(source: BinaryIO | Path, resources: ExitStack) -> Stack:
    """Return the scanned area of a slide with its levels.

    Raises
    ------
    ImageReadError
        The slide cannot be opened.
    """
    import openslide

    path = native_path(source, resources, ".mrxs")
    slide: Any = resources.enter_context(openslide.OpenSlide(path))
    slide.set_cache(openslide.OpenSlideCache(CACHE_BYTES))
    levels = [_level(slide, i) for i in range(slide.level_count)]
    return replace(levels[0], coarser=tuple(levels[1:]))


def _level(slide: Any, level: int) -> Stack:
    """Return a level of the area that was scanned: a slide is far larger."""
    properties, downsample = slide.properties, slide.level_downsamples[level]
    left, top = (int(properties.get(f"openslide.bounds-{axis}", 0)) for axis in "xy")
    full_width, full_height = slide.level_dimensions[level]
    width = min(full_width, int(int(properties.get("openslide.bounds-width", full_width * downsample)) / downsample))
    height = min(
        full_height, int(int(properties.get("openslide.bounds-height", full_height * downsample)) / downsample)
    )
    background = np.frombuffer(bytes.fromhex(properties.get("openslide.background-color", "FFFFFF")), np.uint8)

    def read(_: tuple[int, ...], rows: slice, columns: slice) -> Image:
        at = (left + round(columns.start * downsample), top + round(rows.start * downsample))
        size = (columns.stop - columns.start, rows.stop - rows.start)
        image = np.asarray(slide.read_region(at, level, size))
        # Where nothing was scanned, the slide is transparent.
        return np.where(image[..., 3:] < _OPAQUE, background, image[..., :3])

    try:
        down, across = (float(properties[f"openslide.mpp-{axis}"]) * downsample for axis in "yx")
    except (KeyError, ValueError):
        down = across = 0.0
    return Stack(
        axes="YXS",
        shape=(height, width, 3),
        dtype=np.uint8,
        channels=(),
        pixel_size_um=in_micrometres((down, across), ("um", "um")),
        read=read,
        reads_blocks=True,
    )
