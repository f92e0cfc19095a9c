"""TIFFs that microscopes write by rules of their own.

tifffile finds the pages of an LSM of Zeiss and an STK of MetaMorph. Single planes that the software of plate readers
writes are plain TIFFs, but state the size of a pixel in their own way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO
from xml.etree import ElementTree

from nuclei_runtime.errors import ImageReadError, ImageShapeError
from nuclei_runtime.readers.axes import Stack
from nuclei_runtime.readers.pixel_size import PixelSize, from_tiff, in_micrometres
from nuclei_runtime.readers.tiff.directories import Directory
from nuclei_runtime.readers.tiff.stack import pages_of_series, stack_of

MICROSCOPES = ("lsm", "stk")
"""As tifffile calls them."""

_IMAGE_DESCRIPTION, _MAKE = 270, 271
_HARMONY_METADATA = 65500
_BLACK_IS_ZERO = 1
_POSITIONS = "MP"
"""The axes of tifffile for the tiles and positions of an LSM."""


def plane_pixel_size(tags: Any) -> PixelSize | None:
    """Return the size of a pixel of a plain TIFF, which some microscopes state in a way of their own.

    MetaXpress and MetaMorph write it into XML in the description. The resolution in a plane of Harmony is that of the
    camera: without the magnification it says nothing, and the plate's index states the size.
    """
    if _HARMONY_METADATA in tags or (_MAKE in tags and "PerkinElmer" in str(tags[_MAKE].value)):
        return None
    description = tags[_IMAGE_DESCRIPTION].value if _IMAGE_DESCRIPTION in tags else ""
    if isinstance(description, str) and description.startswith("<MetaData>"):
        return _metaseries_pixel_size(description)
    return from_tiff(tags)


def _metaseries_pixel_size(xml: str) -> PixelSize | None:
    if "<!DOCTYPE" in xml or "<!ENTITY" in xml:
        return None
    try:
        found = {
            prop.get("id"): prop.get("value", "") for prop in ElementTree.fromstring(xml).iterfind("PlaneInfo/prop")
        }
        if found.get("spatial-calibration-state") != "on":
            return None
        unit = found.get("spatial-calibration-units", "")
        return in_micrometres([float(found[f"spatial-calibration-{axis}"]) for axis in "yx"], (unit, unit))
    except (ElementTree.ParseError, KeyError, ValueError):
        return None


def microscope_scenes(file: BinaryIO, tiff: Any, kind: str, directories: Sequence[Directory]) -> Stack:
    """Return the image of an LSM or STK.

    Raises
    ------
    ImageReadError, ImageShapeError
        See `nuclei_runtime.readers.opening.read_image`.
    """
    series = next((one for one in tiff.series if not one.keyframe.is_reduced), None)
    metadata = getattr(tiff, f"{kind}_metadata")
    if series is None or series.kind != kind or metadata is None:
        raise ImageReadError(f"the metadata of the {kind.upper()} contradict its pages; export the image as OME-TIFF")
    sizes = dict(zip(series.get_axes(False), series.get_shape(False), strict=True))
    if not {"Y", "X"} <= sizes.keys() or 1 in (sizes["Y"], sizes["X"]):
        axes = "".join(axis for axis, n in sizes.items() if n > 1)
        raise ImageShapeError(f"the {kind.upper()} is a scan with axes {axes}, not an image in X and Y")
    if (n := max(sizes.get(axis, 1) for axis in _POSITIONS)) > 1:
        raise ImageShapeError(f"the LSM holds {n} positions or tiles, which is not supported; export it as OME-TIFF")
    return stack_of(
        file,
        tiff,
        directories,
        pages_of_series(series, directories),
        _lsm_channels(metadata, sizes.get("C", 1)) if kind == "lsm" else (),
        _lsm_pixel_size(metadata) if kind == "lsm" else _stk_pixel_size(metadata),
        _BLACK_IS_ZERO,  # an LSM of three channels says that they are red, green and blue
    )


def _lsm_channels(metadata: Mapping[str, Any], n: int) -> tuple[str, ...]:
    names = tuple(map(str, (metadata.get("ChannelColors") or {}).get("ColorNames") or ()))
    return names if len(names) == n and all(names) else ()


def _lsm_pixel_size(metadata: Mapping[str, Any]) -> PixelSize | None:
    return in_micrometres((metadata["VoxelSizeY"], metadata["VoxelSizeX"]), ("m", "m"))


def _stk_pixel_size(metadata: Mapping[str, Any]) -> PixelSize | None:
    if not metadata.get("SpatialCalibration"):
        return None
    unit = str(metadata.get("CalibrationUnits", ""))
    try:
        return in_micrometres([float(metadata[f"{axis}Calibration"]) for axis in "YX"], (unit, unit))
    except (KeyError, TypeError, ValueError):
        return None
