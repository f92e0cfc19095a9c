"""Outlines in ImageJ's ROI files: one ``.roi``, or a zip of them, as Fiji's ROI Manager saves it.

For the outlines of areas, ImageJ counts pixels as `Outline` does: whole numbers are corners (ij.process.PolygonFiller).
"""

from __future__ import annotations

import io
import re
import zipfile
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from nuclei_runtime.errors import ImageReadError, MissingExtraError
from nuclei_runtime.readers.outlines.drawing import Outline, Outlines
from nuclei_runtime.wording import counted

_MAX_ROI_BYTES = 64 << 20
"""A ROI of a million corners has 8 MB."""

_SLICE_NAME = re.compile(r"(\d{4,6})-\d{4,6}-\d{4,6}(?:-\d+)?")
"""How ImageJ names a ROI: the place in the stack, row and column, and a number if there is another of this name."""

_AREAS = {"POLYGON", "RECT", "OVAL", "FREEHAND", "TRACED"}
"""The types of ROIs that have an area. A composite one is stored as a rectangle."""


def read_rois(name: str, content: bytes) -> Outlines:
    """Read the outlines of nuclei from the name and the content of a ROI file or a zip of ROI files.

    Raises
    ------
    MissingExtraError
        roifile is not installed.
    ImageReadError
        The file is damaged, or holds a ROI that cannot be read.
    """
    if find_spec("roifile") is None:
        raise MissingExtraError("roifile", "formats")
    outlines: list[Outline] = []
    left_out: Counter[str] = Counter()
    for member, data in _members(name, content):
        roi = _decoded(member, data)
        kind = roi.roitype.name
        if kind not in _AREAS:
            left_out[f"{kind.lower()}, which has no area"] += 1
            continue
        rings = tuple(np.asarray(ring, np.float64)[:, ::-1] for ring in _rings(member, roi) if len(ring) > 2)
        if not rings:
            raise ImageReadError(f"{member}: the ROI has no vertices")
        outlined = roi.name or Path(member).stem
        outlines.append(Outline(rings, outlined, *_plane_of(roi), _place_in_name(roi, outlined)))
    sentences = (f"left out {counted(n, 'ROI')}: {what}" for what, n in left_out.items())
    return Outlines(tuple(outlines), tuple(sentences), left_out.total())


def holds_rois(path: Path) -> bool:
    """Whether a zip holds ROIs and nothing else."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False
    return bool(names) and all(name.lower().endswith(".roi") for name in names)


def _members(name: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    file = io.BytesIO(content)
    if not zipfile.is_zipfile(file):
        yield name, content
        return
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            if not member.filename.lower().endswith(".roi"):
                raise ImageReadError(f"the zip holds {member.filename}, expected only .roi files of ImageJ")
            if member.file_size > _MAX_ROI_BYTES:
                raise ImageReadError(f"{member.filename}: claims to be larger than any ROI")
            yield member.filename, archive.read(member)


def _decoded(name: str, data: bytes) -> Any:
    from roifile import ImagejRoi

    try:
        return ImagejRoi.frombytes(data)
    except Exception as error:  # damaged bytes make it raise all kinds of exceptions
        raise ImageReadError(f"{name}: not an ImageJ ROI, or damaged: {error}") from error


def _plane_of(roi: Any) -> tuple[int | None, int | None, int | None]:
    """Return the time, the Z and the place in the stack of a ROI.

    ImageJ stores the place if the stack is no hyperstack, and time, Z and channel otherwise (ij.gui.Roi.setPosition).
    """
    time, z, place = (at - 1 if at > 0 else None for at in (roi.t_position, roi.z_position, roi.position))
    return time, z, place if (time, z) == (None, None) and roi.c_position <= 0 else None


def _place_in_name(roi: Any, name: str) -> int | None:
    """Return the place in the stack that the name of a ROI tells, if the ROI has no position.

    ImageJ 1.53t adds the ROIs of a stack to the ROI Manager in this way (ij.plugin.frame.RoiManager.getSliceNumber).
    """
    found = _SLICE_NAME.fullmatch(name)
    has_position = max(roi.position, roi.c_position, roi.z_position, roi.t_position) > 0
    return None if has_position or found is None or int(found[1]) < 1 else int(found[1]) - 1


def _rings(name: str, roi: Any) -> Any:
    from roifile import ROI_OPTIONS

    if roi.options & ROI_OPTIONS.SPLINE_FIT:  # only the points that the spline goes through are stored
        raise _curved(name, "is a fitted spline")
    if roi.roitype.name == "RECT" and roi.rounded_rect_arc_size > 0:
        raise _curved(name, "is a rectangle with rounded corners")
    try:
        return roi.coordinates(multi=True)
    except NotImplementedError as error:
        raise _curved(name, "has curves, as combined ovals have") from error
    except Exception as error:
        raise ImageReadError(f"{name}: the ROI is damaged: {error}") from error


def _curved(name: str, what: str) -> ImageReadError:
    return ImageReadError(f"{name}: the ROI {what}; make it a polygon (Edit > Selection > Interpolate)")
