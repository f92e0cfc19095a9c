"""What is written and drawn into an overlay beside the outlines: numbers, a scale bar, and the key of the colours."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

COLOURS_RGB = ((86, 180, 233), (240, 228, 66), (213, 94, 0))
"""From low to high, with the colours between them: sky blue, yellow and vermillion of Okabe and Ito ("Color Universal
Design", 2008), which people with any colour vision tell apart. All are bright enough for a dark field."""

LOWER_PERCENT, UPPER_PERCENT = 2.0, 98.0
"""Of the values of an image: the first and the last colour, so that one odd nucleus does not make all others equal."""

_TEXT_RGB, _BOX_RGB = (255, 255, 255), (0, 0, 0)
_BAR_SHARE = 0.2
"""A scale bar is at most this share of the picture's width."""
_TEXT_SHARE = 0.03
_MIN_TEXT_PX, _MAX_TEXT_PX = 10, 64


def limits_of(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the values that get the first and the last colour; those that are not finite do not count."""
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, (LOWER_PERCENT, UPPER_PERCENT)) if finite.size else (0.0, 0.0)
    return float(low), float(high)


def colours_of(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.uint8]:
    """Return the colour of each value; those outside the limits have the first or the last colour.

    Parameters
    ----------
    values : (n,) ndarray
    low, high : float

    Returns
    -------
    (n, 3) ndarray of uint8
    """
    share = np.clip((values - low) / (high - low), 0, 1) if high > low else np.full(values.shape, 0.5)
    stops = np.linspace(0, 1, len(COLOURS_RGB))
    rgb = [np.interp(share, stops, channel) for channel in np.transpose(COLOURS_RGB)]
    return np.stack(rgb, axis=-1).round().astype(np.uint8)


def write_numbers(
    picture: PillowImage.Image, numbers: Iterable[int], places: NDArray[np.float64], diameter_px: float
) -> None:
    """Write the number of each nucleus into its middle.

    Parameters
    ----------
    picture : Image
    numbers : iterable of int
    places : (n, 2) ndarray
        Rows and columns in the picture.
    diameter_px : float
        Of a typical nucleus in the picture, for the size of the digits.
    """
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(min(max(0.5 * diameter_px, _MIN_TEXT_PX), _MAX_TEXT_PX))
    for number, (row, column) in zip(numbers, places.tolist(), strict=True):
        draw.text((column, row), str(number), _TEXT_RGB, font, anchor="mm", stroke_width=1, stroke_fill=_BOX_RGB)


def draw_scale_bar(picture: PillowImage.Image, pixel_um: float) -> None:
    """Draw a scale bar of 1, 2 or 5 times a power of ten micrometres into the lower right corner.

    Parameters
    ----------
    picture : Image
    pixel_um : float
        Width of a pixel of the picture.
    """
    length_um = _round_down(_BAR_SHARE * picture.width * pixel_um)
    text = f"{length_um / 1000:g} mm" if length_um >= 1000 else f"{length_um:g} um"  # Pillow's font has no mu
    width = max(round(length_um / pixel_um), 1)
    draw, font, em = _pen(picture)
    thickness = max(em // 3, 2)
    text_width = math.ceil(draw.textlength(text, font))
    inner = max(width, text_width)
    left, top = picture.width - inner - 2 * em, picture.height - math.ceil(2.6 * em) - thickness
    draw.rectangle((left, top, left + inner + em, picture.height - em // 2), _BOX_RGB)
    middle = left + (inner + em) / 2
    draw.text((middle, top + 0.3 * em), text, _TEXT_RGB, font, anchor="ma")
    bar = math.ceil(middle - width / 2)
    below = picture.height - em
    draw.rectangle((bar, below - thickness + 1, bar + width - 1, below), _TEXT_RGB)


def draw_colour_key(picture: PillowImage.Image, name: str, low: float, high: float) -> None:
    """Draw the colours with the values of the first and the last one into the lower left corner.

    Parameters
    ----------
    picture : Image
    name : str
        Of the column.
    low, high : float
    """
    draw, font, em = _pen(picture)
    name = _ascii(name)
    ends = _short(low), _short(high)
    widths = [math.ceil(draw.textlength(text, font)) for text in (name, *ends)]
    inner = max(widths[0], sum(widths[1:]) + em, 6 * em)
    height = math.ceil(4.4 * em)
    left, top = em // 2, picture.height - em // 2 - height
    draw.rectangle((left, top, left + inner + em, top + height), _BOX_RGB)
    left += em // 2
    draw.text((left, top + 0.3 * em), name, _TEXT_RGB, font, anchor="la")
    bar = np.broadcast_to(colours_of(np.arange(inner, dtype=float), 0, inner - 1), (em, inner, 3))
    picture.paste(PillowImage.fromarray(np.ascontiguousarray(bar)), (left, math.ceil(top + 1.7 * em)))
    draw.text((left, top + 2.9 * em), ends[0], _TEXT_RGB, font, anchor="la")
    draw.text((left + inner, top + 2.9 * em), ends[1], _TEXT_RGB, font, anchor="ra")


def write_missing_column(picture: PillowImage.Image, name: str) -> None:
    """Write into the lower left corner that the column of the colours was not measured.

    Parameters
    ----------
    picture : Image
    name : str
        Of the column.
    """
    draw, font, em = _pen(picture)
    text = f"{_ascii(name)}: not measured"
    width, height = math.ceil(draw.textlength(text, font)) + em, 2 * em
    left, top = em // 2, picture.height - em // 2 - height
    draw.rectangle((left, top, left + width, top + height), _BOX_RGB)
    draw.text((left + em // 2, top + 0.5 * em), text, _TEXT_RGB, font, anchor="la")


def _ascii(name: str) -> str:
    """Return a name as far as Pillow's font goes."""
    return name.encode("ascii", "replace").decode()


def _pen(picture: PillowImage.Image) -> tuple[ImageDraw.ImageDraw, ImageFont.FreeTypeFont | ImageFont.ImageFont, int]:
    em = round(min(max(_TEXT_SHARE * min(picture.size), _MIN_TEXT_PX), _MAX_TEXT_PX))
    return ImageDraw.Draw(picture), ImageFont.load_default(em), em


def _short(value: float) -> str:
    """Return a number with three significant digits, and all those before the point: 2350, not 2.35e+03."""
    return f"{value:.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"


def _round_down(length: float) -> float:
    """Return the largest of 1, 2 and 5 times a power of ten that is not longer."""
    power = 10.0 ** math.floor(math.log10(length))  # just below a power of ten, the logarithm is that of the power
    return max(step * power for step in (0.5, 1, 2, 5) if step * power <= length)
