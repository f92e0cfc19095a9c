"""The label image of a plane as OME-Zarr 0.5, with smaller levels for viewers. Needs the extra `formats`.

Metadata: the OME-NGFF specification 0.5 (ngff.openmicroscopy.org), multiscales and image-label.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nuclei_runtime.segmentation.plane_input import regions
from nuclei_runtime.writers.plane_writer import LabelSource, PlaneWriter

CHUNK_PX = 1024
"""Side of a chunk, each of which is a file."""

SMALLEST_LEVEL_PX = 512
"""Levels are halved until no side is longer: a viewer shows that much at once."""

_MAX_UINT16_LABEL = 65_535


class OmeZarrLabelsWriter(PlaneWriter):
    """Writes a folder: a multiscale image with the metadata of labels, 0 background, 1..N, without the image itself.

    16 bits per pixel, 32 beyond 65,535 nuclei. Each level has every second pixel of the one before in each direction,
    because a mean of numbers of nuclei means nothing.
    """

    def finish(self, labels: LabelSource, n_nuclei: int) -> None:
        """Write the folder."""
        import zarr

        shapes = [self.plane.shape[:2]]
        while max(shapes[-1]) > SMALLEST_LEVEL_PX:
            shapes.append((-(-shapes[-1][0] // 2), -(-shapes[-1][1] // 2)))
        group = zarr.open_group(
            zarr.storage.LocalStore(self.path), mode="w", zarr_format=3, attributes={"ome": self._metadata(len(shapes))}
        )
        for level, shape in enumerate(shapes):
            array = group.create_array(
                str(level),
                shape=shape,
                chunks=(min(CHUNK_PX, shape[0]), min(CHUNK_PX, shape[1])),
                dtype=np.uint16 if n_nuclei <= _MAX_UINT16_LABEL else np.uint32,
                dimension_names=["y", "x"],
                compressors=zarr.codecs.ZstdCodec(level=5),
                fill_value=0,
            )
            finer = None if level == 0 else group[str(level - 1)]
            for rows, columns in regions(shape, CHUNK_PX):
                array[rows, columns] = (
                    labels.read(rows, columns) if finer is None else finer[_doubled(rows), _doubled(columns)][::2, ::2]
                )

    def _metadata(self, n_levels: int) -> dict[str, Any]:
        size = self.plane.pixel_size_um
        unit = {} if size is None else {"unit": "micrometer"}
        datasets = [
            {
                "path": str(level),
                "coordinateTransformations": [
                    {"type": "scale", "scale": [length * 2**level for length in size or (1.0, 1.0)]}
                ],
            }
            for level in range(n_levels)
        ]
        return {
            "version": "0.5",
            "multiscales": [
                {
                    "name": self.image + self.plane.suffix,
                    "axes": [{"name": name, "type": "space", **unit} for name in "yx"],
                    "datasets": datasets,
                }
            ],
            "image-label": {},
        }


def _doubled(part: slice) -> slice:
    """Return the pixels of the finer level; the last of them may lie beyond it."""
    return slice(2 * part.start, 2 * part.stop)
