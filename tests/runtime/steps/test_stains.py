"""Stains: grey channels of a colour image in which nuclei are bright."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.color import rgb2hed

from nuclei_runtime.steps.stains import STAINS, is_colour, stained, white_of

WHITE, HAEMATOXYLIN, EOSIN, DAB = (245, 240, 245), (90, 70, 150), (230, 130, 190), (140, 95, 60)
COLOURS = np.array([[WHITE, HAEMATOXYLIN, EOSIN, DAB]], np.uint8)


def test_haematoxylin_is_that_of_scikit_image() -> None:
    """The vectors are the same; scikit-image divides by a constant, and sets what is below nothing to nothing."""
    image = np.random.default_rng(3).integers(1, 256, (20, 30, 3)).astype(np.uint8)
    ours, theirs = stained(image, "he", 255), rgb2hed(image)[..., 0]
    there = theirs > 0
    ratio = ours[there] / theirs[there]
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-4)
    assert (ours[~there] <= 1e-6).all()


def test_what_a_stain_is_for_is_bright_in_it() -> None:
    white, haematoxylin, eosin, dab = stained(COLOURS, "he", 255)[0]
    assert haematoxylin > max(white, eosin, dab) + 0.2
    white, haematoxylin, eosin, dab = stained(COLOURS, "hdab", 255)[0]
    assert min(haematoxylin, dab) > max(white, eosin) + 50


IMAGE = np.random.default_rng(4).integers(2, 256, (9, 7, 4)).astype(np.uint8)  # 0 is almost black in 1/255 of white
SAME_COLOURS = {
    "16 bits": IMAGE.astype(np.uint16) * 257,
    "8 bits in 16": IMAGE.astype(np.uint16),
    "8 bits in 64": IMAGE.astype(np.int64),
    "8 bits, big-endian": IMAGE.astype(">u2"),
    "8 bits above the precision of float32": (IMAGE.astype(np.int64) << 40),
    "0 to 1": IMAGE / 255,
    "0 to 1 in 32 bits": (IMAGE / 255).astype(np.float32),
    "beyond float32": IMAGE / 255 * 1e300,
    "below float32": IMAGE / 255 * 1e-300,
}


@pytest.mark.parametrize("kind", SAME_COLOURS)
@pytest.mark.parametrize("stain", STAINS)
def test_a_type_changes_nothing_but_the_unit_and_the_zero(stain: str, kind: str) -> None:
    expected = stained(IMAGE, stain, 255)
    assert expected.dtype == np.float32
    assert expected.shape == (9, 7)
    other = SAME_COLOURS[kind]
    found = stained(other, stain, white_of(other.dtype, other.max()))
    found = (found - found.min()) / np.ptp(found)
    np.testing.assert_allclose(found, (expected - expected.min()) / np.ptp(expected), atol=1e-5)


def test_an_offset_is_no_loss_of_precision() -> None:
    """As of a type that float32 cannot hold; only red is negated, so nothing else changes."""
    far = IMAGE.astype(np.uint32) + np.uint32(4_000_000_000)
    found = stained(far, "hdab", white_of(far.dtype, far.max()))
    np.testing.assert_array_equal(found + 4e9, stained(IMAGE, "hdab", 255))


@pytest.mark.parametrize(
    ("dtype", "brightest", "white"),
    [
        (np.uint8, 255, 255),
        (np.uint8, 3, 255),
        (np.int8, 127, 127),
        (np.uint16, 200, 255),
        (np.uint16, 1023, 1023),
        (np.uint16, 3000, 4095),
        (np.int64, 65_535, 65_535),
        (np.uint64, 2.0**64, 2.0**64 - 1),
        (np.float32, 0.9, 1),
        (np.float64, 1, 1),
        (np.float64, 1.1, 2),
        (np.float64, 250, 256),
        (np.float64, np.finfo(np.float64).max, 2.0**1023),
        (np.float64, 0, 1),
        (np.float32, -5, 1),
    ],
)
def test_white_is_the_end_of_the_range_of_the_camera(dtype: type, brightest: float, white: float) -> None:
    assert white_of(dtype, brightest) == white


@pytest.mark.parametrize("stain", STAINS)
def test_a_pixel_depends_on_itself_only(stain: str) -> None:
    image = np.random.default_rng(5).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    np.testing.assert_array_equal(stained(image, stain, 255)[3:9, 5:], stained(image[3:9, 5:], stain, 255))


def test_colours_are_told_from_grey() -> None:
    grey = np.random.default_rng(6).integers(0, 256, (8, 8)).astype(np.uint8)
    as_rgba = np.dstack([grey] * 3 + [np.full_like(grey, 255)])
    assert not is_colour(grey)
    assert not is_colour(grey[..., np.newaxis])
    assert not is_colour(as_rgba)
    as_rgba[7, 7, 2] ^= 1
    assert is_colour(as_rgba)
