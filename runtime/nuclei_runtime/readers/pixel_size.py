"""The size of a pixel in micrometres from the metadata of a file, or None where the metadata do not really state it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

PixelSize = tuple[float, float]
"""Height and width in micrometres."""

# UnitsLength of the OME schema 2016-06, the units of ImageJ, and those of OME-Zarr (UDUNITS-2).
_UM_PER_SYMBOL = {
    "pm": 1e-6, "Å": 1e-4, "\u212b": 1e-4, "nm": 1e-3, "µm": 1.0, "\u03bcm": 1.0, "um": 1.0, "mm": 1e3, "cm": 1e4,
    "m": 1e6, "in": 25_400.0,
}  # fmt: skip
"""In symbols the case matters: OME has Mm and Pm too."""
_UM_PER_NAME = {
    "micron": 1.0, "microns": 1.0, "micrometer": 1.0, "micrometre": 1.0, "picometer": 1e-6, "angstrom": 1e-4,
    "nanometer": 1e-3, "nanometre": 1e-3, "millimeter": 1e3, "millimetre": 1e3, "centimeter": 1e4, "centimetre": 1e4,
    "meter": 1e6, "metre": 1e6, "inch": 25_400.0,
}  # fmt: skip
_UM_PER_RESOLUTION_UNIT = {2: 25_400.0, 3: 10_000.0}  # TIFF 6.0, tag 296: inch, centimetre
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 282, 283, 296

FINEST_UM, COARSEST_UM = 1e-6, 1e6
"""A picometre and a metre. What is finer or coarser was not taken by a microscope: the metadata are damaged."""

COARSEST_TIFF_PIXEL_UM = 20.0
"""Coarser pixels are meant for a printer or a screen: 1200 dpi is 21.2 um, 300 dpi 85 um, 96 dpi 265 um, 72 dpi
353 um. The pixels of microscopes are smaller by two orders of magnitude."""


def in_micrometres(sizes: Sequence[float], units: Sequence[str]) -> PixelSize | None:
    """Return the size of a pixel; None if it is not known for both axes, or lies outside `FINEST_UM` to `COARSEST_UM`.

    Parameters
    ----------
    sizes, units : sequence of two
        For rows and columns.
    """
    height, width = (size * _factor(unit) for size, unit in zip(sizes, units, strict=True))
    return (height, width) if all(FINEST_UM <= size <= COARSEST_UM for size in (height, width)) else None


def from_imagej(metadata: Mapping[str, Any], tags: Any) -> PixelSize | None:
    """Read the units of ImageJ and its resolution, in pixels per unit (TiffEncoder of ImageJ).

    The unit of the rows is only given if it is not that of the columns. Inches and centimetres are the units of TIFF
    itself, which ImageJ copies from files that have no others: they are treated as in `from_tiff`.
    """
    spacing = _spacing(tags)
    unit = metadata.get("unit")
    units = [str(metadata.get("yunit", unit)), str(unit)]
    size = in_micrometres(spacing, units) if spacing else None
    is_of_tiff = any(_factor(unit) in _UM_PER_RESOLUTION_UNIT.values() for unit in units)
    return _of_microscope(size) if size and is_of_tiff else size


def from_tiff(tags: Any) -> PixelSize | None:
    """Read the resolution of a TIFF if it is fine enough to be that of a microscope: `COARSEST_TIFF_PIXEL_UM`."""
    spacing = _spacing(tags)
    factor = _UM_PER_RESOLUTION_UNIT.get(tags[_RESOLUTION_UNIT].value) if _RESOLUTION_UNIT in tags else None
    if not spacing or factor is None:
        return None
    return _of_microscope((spacing[0] * factor, spacing[1] * factor))


def _factor(unit: str) -> float:
    """Return micrometres per unit; NaN if it is not a length."""
    unit = unit.strip().replace("\\u00B5", "µ")
    return _UM_PER_SYMBOL.get(unit, _UM_PER_NAME.get(unit.lower(), math.nan))


def _of_microscope(size: PixelSize) -> PixelSize | None:
    return size if max(size) < COARSEST_TIFF_PIXEL_UM else None


def _spacing(tags: Any) -> PixelSize | None:
    """Return units per pixel, vertically and horizontally, from the two rational numbers of pixels per unit."""
    spacing = []
    for code in (_Y_RESOLUTION, _X_RESOLUTION):
        value = tags[code].value if code in tags else None
        if not (isinstance(value, tuple) and len(value) == 2 and all(value)):
            return None
        spacing.append(value[1] / value[0])
    return spacing[0], spacing[1]
