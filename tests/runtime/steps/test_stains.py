"""Stains: grey channels of a colour image in which nuclei are bright."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.color import rgb2hed

from nuclei_runtime.steps.stains import STAINS, is_colour, stained

WHITE, HAEMATOXYLIN, EOSIN, DAB = (245, 240, 245), (90, 70, 150), (230, 130, 190), (140, 95, 60)
COLOURS = np.array([[WHITE, HAEMATOXYLIN, EOSIN, DAB]], np.uint8)


def test_haematoxylin_is_that_of_scikit_image() -> None:
    """The vectors are the same; scikit-image divides by a constant, and sets what is below nothing to nothing."""
    image = np.random.default_rng(3).integers(1, 256, (20, 30, 3)).astype(np.uint8)
    ours, theirs = stained(image, "he"), rgb2hed(image)[..., 0]
    there = theirs > 0
    ratio = ours[there] / theirs[there]
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-4)
    assert (ours[~there] <= 1e-6).all()


def test_what_a_stain_is_for_is_bright_in_it() -> None:
    white, haematoxylin, eosin, dab = stained(COLOURS, "he")[0]
    assert haematoxylin > max(white, eosin, dab) + 0.2
    white, haematoxylin, eosin, dab = stained(COLOURS, "hdab")[0]
    assert min(haematoxylin, dab) > max(white, eosin) + 50


@pytest.mark.parametrize("stain", STAINS)
def test_a_type_changes_nothing_but_the_unit_and_the_zero(stain: str) -> None:
    image = np.random.default_rng(4).integers(0, 256, (9, 7, 4)).astype(np.uint8)
    expected = stained(image, stain)
    assert expected.dtype == np.float32
    assert expected.shape == (9, 7)
    for other in (image.astype(np.uint16) * 257, image / 255, (image / 255).astype(np.float32)):
        found = stained(other, stain)
        slope, offset = np.polyfit(expected.ravel(), found.ravel(), 1)
        assert slope > 0
        np.testing.assert_allclose(found, slope * expected + offset, atol=1e-4 * np.ptp(found))


@pytest.mark.parametrize("stain", STAINS)
def test_a_pixel_depends_on_itself_only(stain: str) -> None:
    image = np.random.default_rng(5).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    np.testing.assert_array_equal(stained(image, stain)[3:9, 5:], stained(image[3:9, 5:], stain))


def test_colours_are_told_from_grey() -> None:
    grey = np.random.default_rng(6).integers(0, 256, (8, 8)).astype(np.uint8)
    as_rgba = np.dstack([grey] * 3 + [np.full_like(grey, 255)])
    assert not is_colour(grey)
    assert not is_colour(grey[..., np.newaxis])
    assert not is_colour(as_rgba)
    as_rgba[7, 7, 2] ^= 1
    assert is_colour(as_rgba)
