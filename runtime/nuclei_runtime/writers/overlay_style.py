"""How an overlay is drawn: for a person who judges the outlines, or for a slide of a talk."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nuclei_runtime.errors import InputsError
from nuclei_runtime.steps.columns import CHANNEL, NUCLEI_COLUMNS, describe_column

STRETCHED, NATURAL = "stretched", "natural"

MAX_WIDTH_PX = 20


@dataclass(frozen=True)
class OverlayStyle:
    """How an overlay is drawn.

    Attributes
    ----------
    natural : bool
        Whether to show the image as it is, rather than with its contrast stretched.
    width_px : int
        Of the outlines, in pixels of the overlay.
    colour_by : str, optional
        The column of the nuclei table that colours the outlines. Without one, or where an image does not have it, all
        have the same colour.
    colour_range : (float, float), optional
        The values of the first and the last colour. Without it, percentiles of each image.
    numbers : bool
        Whether to write each nucleus's number into it.
    scale_bar : bool
        Whether to draw a scale bar, if the size of a pixel is known.
    """

    natural: bool = False
    width_px: int = 1
    colour_by: str | None = None
    colour_range: tuple[float, float] | None = None
    numbers: bool = False
    scale_bar: bool = False

    def __str__(self) -> str:
        """Return the text that `parse_overlay_style` reads."""
        words = [NATURAL if self.natural else STRETCHED]
        words += [f"width={self.width_px}"] if self.width_px != 1 else []
        words += [f"colour={self.colour_by}"] if self.colour_by else []
        words += ["range={:.17g}:{:.17g}".format(*self.colour_range)] if self.colour_range else []
        words += ["numbers"] if self.numbers else []
        words += ["scale-bar"] if self.scale_bar else []
        return ",".join(words)


JUDGING = OverlayStyle()
"""For a person who judges the outlines: the contrast stretched, thin outlines in one colour."""

_EXPECTED = (
    f"{STRETCHED} or {NATURAL}, width=PIXELS (1 to {MAX_WIDTH_PX}), colour=COLUMN, range=LOW:HIGH, numbers, scale-bar"
)


def parse_overlay_style(text: str) -> OverlayStyle:
    """Return the style that a comma list names, such as ``natural,width=3,scale-bar``.

    Raises
    ------
    InputsError
        It names none.
    """
    found: dict[str, object] = {}
    for word in text.split(","):
        name, _, value = word.partition("=")
        parsed: object
        if word in (STRETCHED, NATURAL):
            name, parsed = "natural", word == NATURAL
        elif word in ("numbers", "scale-bar"):
            name, parsed = word.replace("-", "_"), True
        elif name == "width" and value.isdecimal() and 1 <= int(value) <= MAX_WIDTH_PX:
            name, parsed = "width_px", int(value)
        elif name == "colour" and value:
            _check_column(value)
            name, parsed = "colour_by", value
        elif name == "range" and (limits := _parse_range(value)) is not None:
            name, parsed = "colour_range", limits
        else:
            raise InputsError(f"--overlay {text}: found {word!r}, expected one or more of: {_EXPECTED}")
        if name in found:
            raise InputsError(f"--overlay {text}: {word!r} is a second word for the same thing; give one")
        found[name] = parsed
    if "colour_range" in found and "colour_by" not in found:
        raise InputsError(f"--overlay {text}: range is that of the colours; add colour=COLUMN")
    return OverlayStyle(**found)  # type: ignore[arg-type]


def _check_column(name: str) -> None:
    column = describe_column(name)
    if column is None or column.kind is str:
        numbers = [one.name for one in NUCLEI_COLUMNS if one.kind is not str and CHANNEL not in one.name]
        plain = [one for one in numbers if not one.startswith(("cell_", "ring_"))]
        raise InputsError(
            f"--overlay colour={name}: not a column of measurements in nuclei.csv; these are {', '.join(plain)}, "
            "and those of other channels and of cells, such as intensity_mean:GFP and cell_area_px"
        )


def _parse_range(text: str) -> tuple[float, float] | None:
    try:
        low, high = map(float, text.split(":"))
    except ValueError:
        return None
    return (low, high) if math.isfinite(low) and math.isfinite(high) and low < high else None
