"""TIFFs that microscopes write by rules of their own: LSM of Zeiss and STK of MetaMorph. tifffile finds their pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

from nuclei_runtime.errors import ImageReadError, ImageShapeError
from nuclei_runtime.readers.axes import Stack
from nuclei_runtime.readers.pixel_size import PixelSize, in_micrometres
from nuclei_runtime.readers.tiff.directories import Directory
from nuclei_runtime.readers.tiff.stack import pages_of_series, stack_of

MICROSCOPES = ("lsm", "stk")
"""As tifffile calls them."""

_BLACK_IS_ZERO = 1
_POSITIONS = "MP"
"""The axes of tifffile for the tiles and positions of an LSM."""


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
