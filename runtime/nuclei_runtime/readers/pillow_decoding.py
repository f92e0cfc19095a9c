"""What Pillow decodes, as the arrays that everything here passes on."""

from __future__ import annotations

from typing import Any

import numpy as np

from nuclei_runtime.arrays import Image

_PLAIN_MODES = {"P": "RGB", "PA": "RGB", "LA": "L", "CMYK": "RGB", "YCbCr": "RGB", "LAB": "RGB"}
"""Pillow's modes that are no intensities, or have an alpha that nothing uses, and what they are read as."""


def form_of(picture: Any) -> tuple[tuple[int, ...], Any]:
    """Return the shape and type that `decode_picture` will give, without decoding."""
    from PIL import Image as PillowImage

    pixel = np.asarray(PillowImage.new(_PLAIN_MODES.get(picture.mode, picture.mode), (1, 1)))
    return (picture.height, picture.width, *pixel.shape[2:]), pixel.dtype


def decode_picture(picture: Any) -> Image:
    """Decode, with palettes, CMYK, YCbCr and Lab as RGB and grey without its alpha."""
    picture.load()
    return np.asarray(picture.convert(_PLAIN_MODES.get(picture.mode, picture.mode)))
