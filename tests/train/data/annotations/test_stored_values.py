"""Masks are what is stored, whatever a viewer makes of them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from nuclei_runtime.errors import ImageError, ImageShapeError
from nuclei_train.data.annotations.stored_values import read_stored

LABELS = np.zeros((20, 30), np.uint8)
LABELS[2:8, 3:9] = 1
LABELS[10:18, 12:25] = 2
LABELS[2:6, 20:28] = 200

INVERTED = np.repeat(np.arange(256)[::-1, None], 3, 1)
REPEATING = np.repeat(np.arange(256)[:, None] % 5 * 50, 3, 1)
COLOURS = np.random.default_rng(0).integers(30, 250, (256, 3))


def with_palette(colours: np.ndarray, form: str) -> bytes:
    picture = Image.fromarray(LABELS)
    picture.putpalette(colours.astype(np.uint8).ravel().tolist())
    buffer = io.BytesIO()
    options = {"compression": "tiff_lzw"} if form == "TIFF" else {}
    picture.save(buffer, format=form, **options)
    return buffer.getvalue()


def tiff(array: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, metadata=None, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("colours", [INVERTED, REPEATING, COLOURS], ids=["inverted", "repeating", "colours"])
@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF"])
def test_a_palette_gives_its_indices(colours: np.ndarray, form: str) -> None:
    np.testing.assert_array_equal(read_stored(with_palette(colours, form)), LABELS)


def test_a_palette_tiff_that_was_not_written_by_pillow_gives_its_indices() -> None:
    content = tiff(LABELS, photometric="palette", colormap=(COLOURS.T * 256).astype(np.uint16))
    np.testing.assert_array_equal(read_stored(content), LABELS)


@pytest.mark.parametrize("writer", ["ImageJ=1.54f\n", "another program"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32])
def test_an_inverted_tiff_gives_its_values(dtype: type, writer: str) -> None:
    stored = LABELS.astype(dtype)
    content = tiff(stored, photometric="miniswhite", description=writer)
    np.testing.assert_array_equal(read_stored(content), stored)


def test_an_inverted_tiff_of_12_bits_gives_its_values() -> None:
    stored = LABELS.astype(np.uint16) * 20
    content = tiff(stored, photometric="miniswhite", bitspersample=12, byteorder="<")
    np.testing.assert_array_equal(read_stored(content), stored)


def test_grey_in_colour_is_grey_and_colours_are_refused() -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.dstack([LABELS] * 3)).save(buffer, format="PNG")
    np.testing.assert_array_equal(read_stored(buffer.getvalue()), LABELS)
    buffer = io.BytesIO()
    Image.fromarray(COLOURS[LABELS].astype(np.uint8)).save(buffer, format="PNG")
    with pytest.raises(ImageShapeError, match="is in colour, expected numbers"):
        read_stored(buffer.getvalue())


@pytest.mark.parametrize("keep", [0, 30, 200])
def test_a_damaged_palette_is_refused(keep: int) -> None:
    with pytest.raises(ImageError):
        read_stored(with_palette(COLOURS, "PNG")[:keep])


def test_a_stack_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.stack([LABELS, LABELS]), photometric="minisblack")
    with pytest.raises(ImageError):
        read_stored((tmp_path / "a.tif").read_bytes())
