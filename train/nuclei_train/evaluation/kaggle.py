"""Kaggle's CSV of masks (ImageId, EncodedPixels): written as a submission, read as truth.

One row per nucleus. EncodedPixels are pairs "start length" of runs of pixels, counted from 1 down the columns,
starting at the top left (Data Science Bowl 2018, "Evaluation"). An image without nuclei has one row with an empty
field.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.arrays import Labels
from nuclei_train.errors import DatasetError

COLUMNS = ("ImageId", "EncodedPixels")
USAGE, IGNORED = "Usage", "Ignored"

_MAX_DIGITS = 18
"""Longer numbers do not fit in a 64-bit integer, and exceed any image."""


@dataclass(frozen=True)
class EncodedMask:
    """One row of the CSV.

    Attributes
    ----------
    line : int
        Line number in the file; the header is line 1.
    text : str
        EncodedPixels, unchecked.
    """

    line: int
    text: str


def rle_decode(text: str, height: int, width: int) -> NDArray[np.bool_]:
    """Return the (height, width) mask that run lengths describe.

    Raises
    ------
    DatasetError
        They are not pairs of whole numbers, exceed the image, overlap or are not in ascending order.
    """
    tokens = text.split()
    for token in tokens:
        if not (token.isascii() and token.isdigit() and len(token) <= _MAX_DIGITS):
            raise DatasetError(f"expected whole numbers from 1, found {token[:_MAX_DIGITS]!r}")
    if len(tokens) % 2:
        raise DatasetError(f"expected pairs of start and length, found {len(tokens)} numbers")
    pixels = np.zeros(height * width, bool)
    end = 0
    for start, length in zip(map(int, tokens[::2]), map(int, tokens[1::2]), strict=True):
        if start < 1 or length < 1 or start + length - 1 > pixels.size:
            raise DatasetError(f"the run {start} {length} is outside the image's pixels 1 to {pixels.size}")
        if start <= end:
            raise DatasetError(f"the run {start} {length} does not follow the one that ends at pixel {end}")
        end = start + length - 1
        pixels[start - 1 : end] = True
    return pixels.reshape((height, width), order="F")


def write_submission(path: Path, predictions: Iterable[tuple[str, Labels]]) -> None:
    """Write a submission: image identifiers, each with its (H, W) labels."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for image_id, labels in predictions:
            starts, lengths, values = _runs(labels)
            nuclei = [values == label for label in np.unique(values) if label != 0]
            writer.writerows((image_id, _text(starts[nucleus], lengths[nucleus])) for nucleus in nuclei)
            if not nuclei:
                writer.writerow((image_id, ""))


def read_masks(path: Path) -> dict[str, list[EncodedMask]]:
    """Read the rows of each image, by identifier.

    An image with Ignored in the column Usage gets an empty list: this is how Kaggle's solution of stage 2 marks images
    that never counted. Columns other than Usage, ImageId and EncodedPixels are ignored.

    Raises
    ------
    DatasetError
        The file cannot be read as CSV, lacks ImageId or EncodedPixels, or has a row with more or fewer fields.
    """
    masks: dict[str, list[EncodedMask]] = {}
    # One nucleus in an image of noise can exceed csv's default limit of 131,072 characters.
    usual_limit = csv.field_size_limit(2**31 - 1)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = next(reader, [])
            if not set(COLUMNS) <= set(header):
                raise DatasetError(
                    f"{path}: found the columns {', '.join(header) or 'none'}, expected {' and '.join(COLUMNS)}"
                )
            image_column, pixels_column = map(header.index, COLUMNS)
            usage_column = header.index(USAGE) if USAGE in header else None
            for row in reader:
                if not row:
                    continue
                if len(row) != len(header):
                    raise DatasetError(
                        f"{path}, line {reader.line_num}, image {row[0]!r}: found {len(row)} fields, "
                        f"expected {len(header)}, as in the header"
                    )
                rows = masks.setdefault(row[image_column], [])
                if usage_column is None or row[usage_column] != IGNORED:
                    rows.append(EncodedMask(reader.line_num, row[pixels_column]))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path}: cannot be read as CSV: {error}") from error
    finally:
        csv.field_size_limit(usual_limit)
    return masks


def decode_labels(image_id: str, masks: Sequence[EncodedMask], height: int, width: int) -> Labels:
    """Return one image's masks as (height, width) labels, 0 background, 1..N in the order of the rows.

    A pixel in two masks belongs to the first; an empty mask gets no number.

    Raises
    ------
    DatasetError
        Run lengths are malformed; the message names the image and the line.
    """
    labels = np.zeros((height, width), np.int32)
    count = 0
    for mask in masks:
        try:
            free = rle_decode(mask.text, height, width) & (labels == 0)
        except DatasetError as error:
            raise DatasetError(f"{image_id}: EncodedPixels in line {mask.line}: {error}; fix that row") from error
        if free.any():
            count += 1
            labels[free] = count
    return labels


def _runs(
    array: NDArray[np.generic],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.generic]]:
    """Return start (from 1), length and value of each run of equal values down the columns."""
    pixels = array.ravel(order="F")
    starts = np.concatenate([[0], np.flatnonzero(pixels[1:] != pixels[:-1]) + 1])
    return starts + 1, np.diff(starts, append=pixels.size), pixels[starts]


def _text(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> str:
    return " ".join(map(str, np.column_stack([starts, lengths]).ravel()))
