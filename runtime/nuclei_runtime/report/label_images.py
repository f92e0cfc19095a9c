"""Reads the label images of a results folder, those that are larger than memory too."""

from __future__ import annotations

import math
from pathlib import Path, PurePosixPath

import numpy as np
import tifffile

from nuclei_runtime.arrays import Labels
from nuclei_runtime.results.layout import is_result, leads_out
from nuclei_runtime.writers.outputs import ORIGINAL_LABELS

MAX_LABELS_PX = 4096
"""Longest side of a label image that is outlined as it is; larger ones are scaled down by a whole factor."""


def read_labels(out: Path, labels: str) -> tuple[Labels, int] | None:
    """Return a label image of a results folder, scaled down if it is large, and by what factor.

    Of each square of pixels, the one in the middle is kept, as in an overlay. Beside the result, only a tile or strip
    is in memory. None if there is no such label image, or it cannot be read.

    Parameters
    ----------
    out : Path
    labels : str
        Its path, relative to the folder, as ``images.csv`` says.
    """
    if not is_result(labels) or leads_out(out, out / labels):
        return None
    try:
        with tifffile.TiffFile(out / labels) as file:
            page = file.pages.first
            scale = math.ceil(max(page.shape[:2]) / MAX_LABELS_PX)
            if scale == 1:
                return np.asarray(page.asarray()).astype(np.int32), 1
            return _scaled_down(page, scale), scale
    except (OSError, ValueError, tifffile.TiffFileError):
        return None


def measured_labels(out: Path, labels: str) -> str:
    """Return the label image whose nuclei are in the tables: a person may have corrected that in ``labels`` since.

    Parameters
    ----------
    out : Path
    labels : str
        As `read_labels` takes it, which is in ``labels``.
    """
    original = PurePosixPath(ORIGINAL_LABELS.folder, *PurePosixPath(labels).parts[1:]).as_posix()
    return original if is_result(labels) and (out / original).is_file() else labels


def _scaled_down(page: tifffile.TiffPage, scale: int) -> Labels:
    middle = scale // 2
    height, width = (len(range(middle, length, scale)) for length in page.shape[:2])
    small = np.zeros((height, width), np.int32)
    for segment, (_, _, top, left, *_), _ in page.segments():
        if segment is None:  # a tile that the file leaves out is background
            continue
        row, column = ((start + scale - 1 - middle) // scale for start in (top, left))  # the first kept one in it
        kept = segment[0, row * scale + middle - top :: scale, column * scale + middle - left :: scale, 0]
        kept = kept[: height - row, : width - column]
        small[row : row + kept.shape[0], column : column + kept.shape[1]] = kept
    return small
