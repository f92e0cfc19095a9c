"""Turns what Pillow decodes into arrays of intensities."""

from __future__ import annotations

from typing import Any

import numpy as np

from nuclei_runtime.arrays import Image

_PLAIN_MODES = {"P": "RGB", "PA": "RGB", "LA": "L", "CMYK": "RGB", "YCbCr": "RGB", "LAB": "RGB"}
"""Modes of Pillow that are not intensities or have an unused alpha channel, and the modes as which they are read."""


def form_of(picture: Any) -> tuple[tuple[int, ...], Any]:
    """Return the shape and dtype of what `decode_picture` returns, without decoding."""
    from PIL import Image as PillowImage

    pixel = np.asarray(PillowImage.new(_PLAIN_MODES.get(picture.mode, picture.mode), (1, 1)))
    return (picture.height, picture.width, *pixel.shape[2:]), pixel.dtype


def decode_picture(picture: Any) -> Image:
    """Decode a picture: palettes, CMYK, YCbCr and Lab as RGB, and grey with alpha without the alpha."""
    picture.load()
    return np.asarray(picture.convert(_PLAIN_MODES.get(picture.mode, picture.mode)))
