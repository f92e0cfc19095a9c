"""Outlines -> nuclei: GeoJSON of QuPath, ROIs of ImageJ, and the polygons of COCO.

They are read and drawn as nuclei-measure reads corrected outlines: a pixel belongs to a nucleus if its centre lies
inside; holes are background; where outlines overlap, the smaller nucleus keeps the pixels. What lies beyond the image
is cut off, and an outline that lies wholly beyond it becomes no nucleus.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from nuclei_runtime.errors import ImageError
from nuclei_runtime.readers.outlines.drawing import Outline
from nuclei_runtime.readers.outlines.opening import read_outlines
from nuclei_train.data.annotations.drawing import (
    NO_OUTLINE,
    NOT_COUNTED,
    OUTSIDE,
    AnnotationFile,
    Drawing,
    LeftOut,
    Nucleus,
)
from nuclei_train.errors import DatasetError


def read_outline_file(file: AnnotationFile) -> Drawing:
    """Read a GeoJSON, a ROI or a zip of ROIs.

    Raises
    ------
    ImageError
        The file is damaged, or the size of the image is not known, because it cannot be read.
    DatasetError
        The outlines were drawn on several planes of a stack.
    """
    try:
        found = read_outlines(file.name, file.content)
    except ImageError as error:
        raise type(error)(f"{file.name}: {error}") from error
    planes = {(outline.time or 0, outline.z or 0, outline.place or 0) for outline in found.outlines}
    in_names = {outline.place_in_name for outline in found.outlines} - {None}
    if (n := max(len(planes), len(in_names))) > 1:
        raise DatasetError(
            f"{file.name}: its outlines lie on {n} planes of a stack, expected those of one image; save each "
            "plane as an image of its own, with its own outlines"
        )
    size = file.image_size()
    kind = NO_OUTLINE if found.n_without_area else NOT_COUNTED
    left_out = [LeftOut(kind, f"{file.name}: {sentence}") for sentence in found.left_out]
    nuclei = []
    for number, outline in enumerate(found.outlines, start=1):
        drawn = draw_nucleus(f"{file.name}, outline {outline.name or number}", [outline], size)
        if isinstance(drawn, Nucleus):
            nuclei.append(drawn)
        else:
            left_out.append(drawn)
    return Drawing(size, smallest_first(nuclei), tuple(left_out))


def draw_nucleus(where: str, pieces: Sequence[Outline], size: tuple[int, int]) -> Nucleus | LeftOut:
    """Draw a nucleus of one or more pieces within an image of this height and width."""
    top, left = (min(piece.box[side] for piece in pieces) for side in (0, 1))
    bottom, right = (max(piece.box[side] for piece in pieces) for side in (2, 3))
    if bottom <= 0 or right <= 0 or top >= size[0] or left >= size[1]:
        return LeftOut(OUTSIDE, f"{where}: the image is {size[0]} x {size[1]} px")
    rows, columns = _span(top, bottom, size[0]), _span(left, right, size[1])
    return Nucleus(where, (rows, columns), np.logical_or.reduce([piece.mask(rows, columns) for piece in pieces]))


def smallest_first(nuclei: Sequence[Nucleus]) -> tuple[Nucleus, ...]:
    """Return nuclei in the order in which they are drawn: a pixel that is taken keeps its nucleus."""
    return tuple(sorted(nuclei, key=lambda nucleus: np.count_nonzero(nucleus.mask)))


def _span(low: float, high: float, length: int) -> slice:
    return slice(max(math.floor(low), 0), min(math.ceil(high), length))
