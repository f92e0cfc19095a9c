"""The overlay of a plane: a picture of the image with its nuclei outlined, for a person to judge them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL.PngImagePlugin import PngInfo
from scipy import ndimage
from skimage.segmentation import find_boundaries

from nuclei_runtime.arrays import Image, Labels
from nuclei_runtime.readers.plane import Plane
from nuclei_runtime.segmentation.blocks import Block
from nuclei_runtime.segmentation.plane_input import plane_limits, regions
from nuclei_runtime.steps.contrast import normalise
from nuclei_runtime.steps.measure import Measures
from nuclei_runtime.steps.percentiles import percentile_limits
from nuclei_runtime.steps.preprocess import colours_of
from nuclei_runtime.writers import overlay_marks as marks
from nuclei_runtime.writers.overlay_style import JUDGING, OverlayStyle
from nuclei_runtime.writers.plane_writer import LabelSource, PlaneWriter

LOWER_PERCENT, UPPER_PERCENT = 1.0, 99.8
"""Contrast limits. A few hot pixels, or a 12-bit camera in a 16-bit file, must not leave the picture black."""

OUTLINE_RGB = (255, 230, 0)
RIM_BRIGHTNESS = 0.35
"""Yellow is visible on a dark field and on purple stain; with a darkened rim also on a white field. Chosen by eye
among yellow, green, cyan and magenta, with and without a rim, on fluorescence, H&E, purple stains on white and on
purple, and bright field."""


MAX_OVERLAY_PX = 4096
"""Longest side of an overlay. Larger planes are scaled down by a whole factor: a person sees no more at once, and
viewers still open the file."""

COMPRESSION = 3
"""Of zlib. Its default, 6, takes 2.5 times as long, a fifth of the processor time of an int8 run, and saves 2 % of the
files (the 64 images of benchmarks/README.md)."""


class OverlayPngWriter(PlaneWriter):
    """Writes the overlay as a PNG. One that is scaled down says so in a text with the keyword ``scale``: 1:5."""

    def __init__(self, path: Path, image: str, plane: Plane, style: OverlayStyle = JUDGING) -> None:
        super().__init__(path, image, plane)
        self._style = style
        self._kept: dict[str, list[NDArray[Any]]] = {name: [] for name in _columns_of(style)}

    def write_block(self, _: Block, table: Measures) -> None:
        """Keep what the style needs of the measurements."""
        for name, parts in self._kept.items():
            if name in table:
                parts.append(table[name])

    def finish(self, labels: LabelSource, n_nuclei: int) -> None:
        """Draw and write the file."""
        scale, style = overlay_scale(self.plane.shape), self._style
        table = {name: np.concatenate(parts) for name, parts in self._kept.items() if parts}
        info = PngInfo()
        if scale > 1:
            info.add_text("scale", f"1:{scale}")
        colours, limits = None, (0.0, 0.0)
        if style.colour_by in table and n_nuclei:
            values = table[style.colour_by].astype(np.float64)
            limits = style.colour_range or marks.limits_of(values)
            colours = np.full((int(table["label"].max()) + 1, 3), OUTLINE_RGB, np.uint8)
            known = np.isfinite(values)
            colours[table["label"][known]] = marks.colours_of(values[known], *limits)
        picture = PillowImage.fromarray(draw_plane_overlay(self.plane, labels, style, colours))
        if style.numbers and n_nuclei:
            places = (np.stack([table[name] for name in _CENTRE], axis=1) + 0.5) / scale
            diameter_px = float(np.median(table[_DIAMETER])) / scale
            marks.write_numbers(picture, table["label"].tolist(), places, diameter_px)
        if style.scale_bar and self.plane.pixel_size_um is not None:
            marks.draw_scale_bar(picture, self.plane.pixel_size_um[1] * scale)
        if colours is not None:
            marks.draw_colour_key(picture, str(style.colour_by), *limits)
        elif style.colour_by and n_nuclei:
            marks.write_missing_column(picture, style.colour_by)
        picture.save(self.path, format="PNG", pnginfo=info, compress_level=COMPRESSION)


_CENTRE, _DIAMETER = ("centroid_row_px", "centroid_column_px"), "equivalent_diameter_px"


def _columns_of(style: OverlayStyle) -> set[str]:
    """Return the columns of the table that a style needs."""
    numbers = {*_CENTRE, _DIAMETER} if style.numbers else set()
    colours = {style.colour_by} if style.colour_by else set()
    return {"label", *numbers, *colours} if numbers or colours else set()


def stretch_contrast(image: Image) -> NDArray[np.float32]:
    """Return an image with the contrast that people need: stored values of fluorescence images often look black.

    Parameters
    ----------
    image : (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) ndarray
        An alpha channel is dropped.

    Returns
    -------
    (H, W, 3) ndarray of float32 in [0, 1]
        Read-only: grey is one channel, shown three times.
    """
    colours = image[..., np.newaxis] if image.ndim == 2 else image[..., :3]
    limits = percentile_limits(colours, LOWER_PERCENT, UPPER_PERCENT)
    if limits[0] == limits[1]:
        limits = _limits_as_stored(colours.dtype, *percentile_limits(colours, 0, 100))
    stretched = normalise(colours, *limits)
    return np.broadcast_to(stretched, (*image.shape[:2], 3))


def draw_overlay(image: Image, labels: Labels) -> NDArray[np.uint8]:
    """Draw the outline of each nucleus, one pixel wide and inside it, on the contrast-stretched image.

    Parameters
    ----------
    image : (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) ndarray
        An alpha channel is dropped.
    labels : (H, W) ndarray of int32

    Returns
    -------
    (H, W, 3) ndarray of uint8
    """
    picture = _to_8_bits(stretch_contrast(image))
    _outline(picture, labels)
    return picture


def overlay_scale(shape: tuple[int, ...]) -> int:
    """Return how many pixels of a plane, in each direction, one pixel of its overlay stands for."""
    return math.ceil(max(shape[:2]) / MAX_OVERLAY_PX)


def draw_plane_overlay(
    plane: Plane, labels: LabelSource, style: OverlayStyle = JUDGING, colours: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """Draw the overlay of a plane of any size; one that is not scaled down is what `draw_overlay` draws.

    In one that is scaled down, a pixel shows the mean of the plane's pixels that it stands for, and the label in the
    middle of them.

    Parameters
    ----------
    plane : Plane
    labels : LabelSource
        Of the plane's size.
    style : OverlayStyle
        Of the image and the outlines; numbers and scale bar are drawn later.
    colours : (N + 1, 3) ndarray of uint8, optional
        Of the outline of each nucleus, by its number. Without them, all are yellow.

    Returns
    -------
    (h, w, 3) ndarray of uint8
        h and w are the plane's divided by `overlay_scale`, rounded up.

    Raises
    ------
    ImageError
        The plane cannot be read.
    """
    scale = overlay_scale(plane.shape)
    picture = draw_plane(plane, scale, natural=style.natural)
    small_labels = np.empty(picture.shape[:2], np.int32)
    for rows, columns in regions(picture.shape, max(_REGION_PX // scale, 1)):
        found = labels.read(*_source(plane, rows, columns, scale))
        middles = [np.minimum(np.arange(scale // 2, length + scale // 2, scale), length - 1) for length in found.shape]
        small_labels[rows, columns] = found[np.ix_(*middles)]
    margin, height = style.width_px, len(picture)
    for top in range(0, height, _REGION_PX):
        # With more rows on each side, only to tell where the edges are.
        first, last = max(top - margin, 0), min(top + _REGION_PX + margin, height)
        strip = picture[first:last].copy()
        _outline(strip, small_labels[first:last], margin, colours)
        inner = slice(top - first, min(top + _REGION_PX, height) - first)
        picture[top : top + _REGION_PX] = strip[inner]
    return picture


def draw_plane(plane: Plane, scale: int = 1, *, natural: bool = False) -> NDArray[np.uint8]:
    """Draw a plane of any size, without outlines.

    If the file also stores the plane at a lower resolution that is high enough, the picture shows the pixels there that
    lie in the middle of its own: reading all of a slide takes minutes.

    Parameters
    ----------
    plane : Plane
    scale : int
        How many pixels of the plane, in each direction, a pixel of the picture is the mean of.
    natural : bool
        Whether to show the intensities as they are: 8 bits unchanged, others from 0, or the smallest if that is
        negative, to the largest. Otherwise, the contrast is stretched, if there is any.

    Returns
    -------
    (h, w, 3) ndarray of uint8
        h and w are the plane's divided by `scale`, rounded up.

    Raises
    ------
    ImageError
        The plane cannot be read.
    """
    height, width = (math.ceil(length / scale) for length in plane.shape[:2])
    fine_enough = [level for level in plane.coarser if plane.shape[0] <= scale * level.shape[0]]
    shown = fine_enough[-1] if fine_enough else plane
    limits = plane_limits(shown, LOWER_PERCENT, UPPER_PERCENT)
    if natural or limits[0] == limits[1]:  # nothing to stretch: a saturated plane must not look black
        limits = _natural_limits(shown)
    picture = np.empty((height, width, 3), np.uint8)
    for rows, columns in regions((height, width), max(_REGION_PX // scale, 1)):
        if shown is plane:
            colours = _scale_down(colours_of(plane.read(*_source(plane, rows, columns, scale))), scale)
        else:
            colours = _sampled(plane, shown, rows, columns, scale)
        colours = colours[..., np.newaxis] if colours.ndim == 2 else colours
        picture[rows, columns] = _to_8_bits(normalise(colours, *limits))
    return picture


def _natural_limits(plane: Plane) -> tuple[float, float]:
    return _limits_as_stored(np.dtype(plane.dtype), *plane_limits(plane, 0, 100))


def _limits_as_stored(dtype: np.dtype[Any], lowest: float, highest: float) -> tuple[float, float]:
    """Return the limits that show the intensities as they are, with those of the image."""
    return (0.0, 255.0) if dtype == np.uint8 else (min(lowest, 0.0), highest)


def _sampled(plane: Plane, level: Plane, rows: slice, columns: slice, scale: int) -> Image:
    """Return the pixels of a coarser level that lie in the middle of those of a part of the picture."""
    at = [
        ((np.arange(part.start, part.stop) + 0.5) * scale * n / length).astype(int).clip(max=n - 1)
        for part, n, length in zip((rows, columns), level.shape, plane.shape, strict=False)
    ]
    region = level.read(*(slice(int(one[0]), int(one[-1]) + 1) for one in at))
    return colours_of(region)[np.ix_(*(one - one[0] for one in at))]


def _source(plane: Plane, rows: slice, columns: slice, scale: int) -> tuple[slice, slice]:
    """Return the part of the plane that a part of the picture stands for."""
    source_rows, source_columns = (
        slice(part.start * scale, min(part.stop * scale, length))
        for part, length in zip((rows, columns), plane.shape, strict=False)
    )
    return source_rows, source_columns


_REGION_PX = 1024
"""Side of the squares and height of the strips in which an overlay is drawn."""


def _to_8_bits(stretched: NDArray[np.float32]) -> NDArray[np.uint8]:
    return (stretched * 255).round().astype(np.uint8)


def _outline(
    picture: NDArray[np.uint8], labels: Labels, width_px: int = 1, colours: NDArray[np.uint8] | None = None
) -> None:
    """Draw the outlines inside the nuclei, and darken the pixels just outside."""
    edge = find_boundaries(labels, mode="thick")  # pixels next to another label, on both sides of the edge
    rim = edge & (labels == 0)
    picture[rim] = (picture[rim] * RIM_BRIGHTNESS).astype(np.uint8)
    rest = ~edge & (labels > 0)
    for step in range(width_px - 1):  # squares and crosses in turn, for lines that are as wide in every direction
        neighbours = ndimage.generate_binary_structure(2, 1 + step % 2)
        rest = ndimage.binary_erosion(rest, neighbours, border_value=1)
    inner = (labels > 0) & ~rest
    picture[inner] = OUTLINE_RGB if colours is None else colours[labels[inner]]


def _scale_down(image: Image, scale: int) -> Image:
    """Return the means of squares of pixels; smaller squares at the lower and right edge have means of their own."""
    if scale == 1:
        return image
    scaled = image.astype(np.float64)
    for axis in (0, 1):
        starts = np.arange(0, image.shape[axis], scale)
        counts = np.diff(np.append(starts, image.shape[axis]))
        sums = np.add.reduceat(scaled, starts, axis=axis)
        scaled = sums / counts.reshape([-1 if a == axis else 1 for a in range(sums.ndim)])
    return scaled
