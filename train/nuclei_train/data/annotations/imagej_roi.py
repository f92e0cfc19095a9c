"""ROIs of ImageJ and Fiji: the zip that the ROI Manager saves, or a single ``.roi``."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from nuclei_runtime.errors import MissingExtraError
from nuclei_train.data.annotations.drawing import NO_OUTLINE, AnnotationFile, Drawing, LeftOut
from nuclei_train.data.annotations.polygons import Outline, draw_outlines, ring
from nuclei_train.data.archive import DAMAGE, read_entry
from nuclei_train.errors import ArchiveError, DatasetError

ZIP_SIGNATURE = b"PK"
ROI_SUFFIX = ".roi"
_CORNERS_OF_OVAL = 72


def read_rois(file: AnnotationFile) -> Drawing:
    """Read the ROIs of one image. Lines and points become no nucleus; of a composite ROI, inner paths are holes.

    Raises
    ------
    ImageError
        The size of the image is not known, because it cannot be read.
    DatasetError
        The file is damaged, or its ROIs lie on several slices of a stack.
    MissingExtraError
        The package roifile is not installed.
    """
    try:
        import roifile
    except ModuleNotFoundError as error:
        raise MissingExtraError("roifile", "data") from error
    size = file.image_size()
    outlines, left_out, slices = [], [], set()
    for name, content in _entries(file):
        where = file.name if name == file.name else f"{file.name}, {name}"
        try:
            roi = roifile.ImagejRoi.frombytes(content)
            parts = _parts(roi, where)
        except (ValueError, IndexError, struct.error, OverflowError, TypeError, MemoryError) as error:
            if isinstance(error, DatasetError):
                raise
            raise DatasetError(f"{where}: is not a ROI of ImageJ ({error}); save the ROIs again") from error
        slices.add(tuple(max(position, 1) for position in (roi.position, roi.z_position, roi.t_position)))  # 0: any
        if parts:
            outlines.append(Outline(where, parts))
        else:
            left_out.append(LeftOut(NO_OUTLINE, f"{where}: {roi.roitype.name.lower()}"))
    if len(slices) > 1:
        raise DatasetError(
            f"{file.name}: its ROIs lie on {len(slices)} slices of a stack, expected those of one image; save each "
            "slice as an image of its own, with its own ROIs"
        )
    nuclei, outside = draw_outlines(outlines, size)
    return Drawing(size, nuclei, (*left_out, *outside))


def _entries(file: AnnotationFile) -> Iterator[tuple[str, bytes]]:
    if not file.content.startswith(ZIP_SIGNATURE):
        yield file.name, file.content
        return
    try:
        archive = zipfile.ZipFile(io.BytesIO(file.content))
    except DAMAGE as error:
        raise ArchiveError(f"{file.name}: is not a readable zip ({error}); save the ROIs again") from error
    archive.filename = file.name  # for messages
    with archive:
        for info in archive.infolist():
            if info.filename.lower().endswith(ROI_SUFFIX):
                yield info.filename, read_entry(archive, info)


def _parts(roi: Any, where: str) -> tuple[Any, ...]:
    """Return the rings of a ROI; none if it has no area."""
    import roifile

    kinds = roifile.ROI_TYPE
    if roi.composite:
        return _nested([ring(path, where) for path in roi.coordinates(multi=True) if len(path) > 2])
    if roi.roitype == kinds.OVAL:
        angles = np.linspace(0, 2 * np.pi, _CORNERS_OF_OVAL, endpoint=False)
        centre = np.array([roi.left + roi.right, roi.top + roi.bottom]) / 2
        axes = np.array([roi.right - roi.left, roi.bottom - roi.top]) / 2
        return ((centre + axes * np.column_stack([np.cos(angles), np.sin(angles)]),),)
    if roi.roitype in (kinds.POLYGON, kinds.FREEHAND, kinds.TRACED, kinds.RECT):
        return ((ring(roi.coordinates(), where),),)
    return ()


def _nested(paths: list[Any]) -> tuple[Any, ...]:
    """Sort the paths of a composite ROI into pieces with their holes: a path within another is a hole of it."""
    from skimage.measure import points_in_poly

    inside = [[bool(points_in_poly(path[:1], other)[0]) for other in paths if other is not path] for path in paths]
    outer = [path for path, within in zip(paths, inside, strict=True) if sum(within) % 2 == 0]
    holes = [path for path, within in zip(paths, inside, strict=True) if sum(within) % 2]
    return tuple((path, *(hole for hole in holes if points_in_poly(hole[:1], path)[0])) for path in outer)
