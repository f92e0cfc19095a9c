"""The overlay of a plane: a picture of the image with its nuclei outlined, for a person to judge them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL.PngImagePlugin import PngInfo
from skimage.segmentation import find_boundaries

from nuclei_runtime.arrays import Image, Labels
from nuclei_runtime.readers.plane import Plane
from nuclei_runtime.segmentation.plane_input import plane_limits, regions
from nuclei_runtime.segmentation.scratch_raster import ScratchRaster
from nuclei_runtime.steps.contrast import normalise
from nuclei_runtime.steps.percentiles import percentile_limits
from nuclei_runtime.steps.preprocess import colours_of
from nuclei_runtime.writers.plane_writer import PlaneWriter

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


class OverlayPngWriter(PlaneWriter):
    """Writes the overlay as a PNG. One that is scaled down says so in a text with the keyword ``scale``: 1:5."""

    def finish(self, labels: ScratchRaster, n_nuclei: int) -> None:  # noqa: ARG002  # as PlaneWriter says
        """Draw and write the file."""
        scale = overlay_scale(self.plane.shape)
        info = PngInfo()
        if scale > 1:
            info.add_text("scale", f"1:{scale}")
        PillowImage.fromarray(draw_plane_overlay(self.plane, labels)).save(self.path, format="PNG", pnginfo=info)


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
    stretched = normalise(colours, *percentile_limits(colours, LOWER_PERCENT, UPPER_PERCENT))
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


def draw_plane_overlay(plane: Plane, labels: ScratchRaster) -> NDArray[np.uint8]:
    """Draw the overlay of a plane of any size; one that is not scaled down is what `draw_overlay` draws.

    In one that is scaled down, a pixel shows the mean of the plane's pixels that it stands for, and the label in the
    middle of them.

    Parameters
    ----------
    plane : Plane
    labels : ScratchRaster
        Of the plane's size.

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
    height, width = (math.ceil(length / scale) for length in plane.shape[:2])
    limits = plane_limits(plane, LOWER_PERCENT, UPPER_PERCENT)
    picture = np.empty((height, width, 3), np.uint8)
    small_labels = np.empty((height, width), np.int32)
    for rows, columns in regions((height, width), max(_REGION_PX // scale, 1)):
        source_rows, source_columns = (
            slice(part.start * scale, min(part.stop * scale, length))
            for part, length in zip((rows, columns), plane.shape, strict=False)
        )
        colours = _scale_down(colours_of(plane.read(source_rows, source_columns)), scale)
        colours = colours[..., np.newaxis] if colours.ndim == 2 else colours
        picture[rows, columns] = _to_8_bits(normalise(colours, *limits))
        found = labels.read(source_rows, source_columns)
        middles = [np.minimum(np.arange(scale // 2, length + scale // 2, scale), length - 1) for length in found.shape]
        small_labels[rows, columns] = found[np.ix_(*middles)]
    for top in range(0, height, _REGION_PX):
        # With one more row on each side, only to tell where the edges are.
        first, last = max(top - 1, 0), min(top + _REGION_PX + 1, height)
        strip = picture[first:last].copy()
        _outline(strip, small_labels[first:last])
        inner = slice(top - first, min(top + _REGION_PX, height) - first)
        picture[top : top + _REGION_PX] = strip[inner]
    return picture


_REGION_PX = 1024
"""Side of the squares and height of the strips in which an overlay is drawn."""


def _to_8_bits(stretched: NDArray[np.float32]) -> NDArray[np.uint8]:
    return (stretched * 255).round().astype(np.uint8)


def _outline(picture: NDArray[np.uint8], labels: Labels) -> None:
    edge = find_boundaries(labels, mode="thick")  # pixels next to another label, on both sides of the edge
    rim = edge & (labels == 0)
    picture[rim] = (picture[rim] * RIM_BRIGHTNESS).astype(np.uint8)
    picture[edge & (labels > 0)] = OUTLINE_RGB


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
