"""The size of a pixel in micrometres from the metadata of a file, or None where the metadata do not really state it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

PixelSize = tuple[float, float]
"""Height and width in micrometres."""

_UM_PER_UNIT = {
    # The symbols of OME (UnitsLength of the OME schema 2016-06), the names of ImageJ and of OME-Zarr (UDUNITS-2).
    "µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0, "microns": 1.0, "micrometer": 1.0, "micrometre": 1.0,
    "pm": 1e-6, "picometer": 1e-6, "å": 1e-4, "angstrom": 1e-4, "nm": 1e-3, "nanometer": 1e-3, "nanometre": 1e-3,
    "mm": 1e3, "millimeter": 1e3, "millimetre": 1e3, "cm": 1e4, "centimeter": 1e4, "centimetre": 1e4,
    "m": 1e6, "meter": 1e6, "metre": 1e6, "in": 25_400.0, "inch": 25_400.0,
}  # fmt: skip
_UM_PER_RESOLUTION_UNIT = {2: 25_400.0, 3: 10_000.0}  # TIFF 6.0, tag 296: inch, centimetre
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 282, 283, 296

COARSEST_TIFF_PIXEL_UM = 20.0
"""Coarser pixels are meant for a printer or a screen: 1200 dpi is 21.2 um, 300 dpi 85 um, 96 dpi 265 um, 72 dpi
353 um. The pixels of microscopes are smaller by two orders of magnitude."""


def in_micrometres(height: float, width: float, unit: str) -> PixelSize | None:
    """Return the size of a pixel, or None if the unit is not a length or a number cannot be a size."""
    factor = _factor(unit)
    if factor is None or not all(math.isfinite(size) and size > 0 for size in (height, width)):
        return None
    return height * factor, width * factor


def from_imagej(metadata: Mapping[str, Any], tags: Any) -> PixelSize | None:
    """Read the unit of ImageJ and its resolution, in pixels per unit (TiffEncoder of ImageJ).

    Inches and centimetres are the units of TIFF itself, which ImageJ copies from files that have no others: they are
    treated as in `from_tiff`.
    """
    spacing = _spacing(tags)
    unit = metadata.get("unit")
    if not spacing or not isinstance(unit, str):
        return None
    size = in_micrometres(*spacing, unit)
    return _of_microscope(size) if size and _factor(unit) in _UM_PER_RESOLUTION_UNIT.values() else size


def from_tiff(tags: Any) -> PixelSize | None:
    """Read the resolution of a TIFF if it is fine enough to be that of a microscope: `COARSEST_TIFF_PIXEL_UM`."""
    spacing = _spacing(tags)
    factor = _UM_PER_RESOLUTION_UNIT.get(tags[_RESOLUTION_UNIT].value) if _RESOLUTION_UNIT in tags else None
    if not spacing or factor is None:
        return None
    return _of_microscope((spacing[0] * factor, spacing[1] * factor))


def _factor(unit: str) -> float | None:
    """Return micrometres per unit."""
    return _UM_PER_UNIT.get(unit.strip().replace("\\u00B5", "µ").lower())


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
