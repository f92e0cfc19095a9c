"""The outlines of a plane's nuclei as ImageJ ROIs: a zip that Fiji's ROI Manager opens. Needs the extra `formats`."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.readers.plane import Plane
from nuclei_runtime.segmentation.blocks import Block
from nuclei_runtime.steps.measure import Measures
from nuclei_runtime.writers.block_outlines import block_outlines
from nuclei_runtime.writers.plane_writer import PlaneWriter

_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The first time that a zip can store, for all members: no clock."""

_MOVE, _LINE, _CLOSE = 0.0, 1.0, 4.0
"""The segments of a path, as ImageJ stores it (java.awt.geom.PathIterator)."""


class ImageJRoiWriter(PlaneWriter):
    """Writes a zip with one ROI per nucleus, named by its number; a zip even for a single nucleus.

    In ImageJ, whole numbers are the corners of pixels for the outlines of areas: an outline along these corners selects
    exactly the pixels of the nucleus, as the wand does (ij.process.PolygonFiller). A nucleus with holes, or in
    pieces, becomes a composite ROI (ij.gui.ShapeRoi). A ROI belongs to its plane (ij.gui.Roi.setPosition): to its time
    and Z in a hyperstack, and to its place in a stack of times or depths alone.
    """

    def __init__(self, path: Path, image: str, plane: Plane) -> None:
        super().__init__(path, image, plane)
        self._zip = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED)

    def write_block(self, block: Block, table: Measures) -> None:
        """Write the nuclei of a block."""
        for label, polygons in block_outlines(block, table):
            rings = [ring[:, ::-1] for polygon in polygons for ring in polygon]
            roi = _outline(rings[0]) if len(rings) == 1 else _composite(rings)
            roi.name = str(label)
            self._place(roi)
            self._zip.writestr(zipfile.ZipInfo(f"{label}.roi", _EPOCH), roi.tobytes(), zipfile.ZIP_DEFLATED)

    def close(self) -> None:
        """Complete and close the zip."""
        self._zip.close()

    def _place(self, roi: Any) -> None:
        """Say on which plane of a stack a ROI lies; ImageJ shows it on all if this is said in the way of the other."""
        time, z = self.plane.time, self.plane.z
        if self.plane.in_hyperstack or None not in (time, z):
            roi.t_position, roi.z_position = (0 if at is None else at + 1 for at in (time, z))
        elif (time, z) != (None, None):
            roi.position = (time or z or 0) + 1


def _outline(ring: NDArray[np.intp]) -> Any:
    """Return the ROI of one ring of (x, y)."""
    from roifile import ROI_TYPE, ImagejRoi

    roi = ImagejRoi.frompoints(ring[:-1])  # ImageJ closes it
    roi.roitype = ROI_TYPE.TRACED  # as the wand's: ImageJ then corrects its perimeter for the stairs of pixels
    roi.right, roi.bottom = map(int, ring.max(axis=0))
    return roi


def _composite(rings: list[NDArray[np.intp]]) -> Any:
    """Return the ROI of several rings of (x, y): pieces, and holes in them."""
    from roifile import ROI_TYPE, ImagejRoi

    roi = ImagejRoi()
    roi.roitype = ROI_TYPE.RECT  # as a shape ROI is stored
    roi.left, roi.top = (int(least) for least in np.min([ring.min(axis=0) for ring in rings], axis=0))
    roi.right, roi.bottom = (int(most) for most in np.max([ring.max(axis=0) for ring in rings], axis=0))
    path: list[float] = []
    for ring in rings:
        (x, y), *rest = ring[:-1].tolist()
        path += [_MOVE, x, y]
        for x, y in rest:
            path += [_LINE, x, y]
        path.append(_CLOSE)
    roi.multi_coordinates = np.array(path, np.float32)
    roi.shape_roi_size = len(path)
    return roi
