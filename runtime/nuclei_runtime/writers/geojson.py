"""The outlines of a plane's nuclei as GeoJSON, as QuPath reads it: one detection per nucleus, with its measurements."""

from __future__ import annotations

import json
import math
import uuid
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.readers.plane import Plane
from nuclei_runtime.segmentation.blocks import Block
from nuclei_runtime.steps.measure import Measures
from nuclei_runtime.writers.block_outlines import block_outlines
from nuclei_runtime.writers.plane_writer import PlaneWriter

_NAMESPACE = uuid.UUID("5f0f4c54-93a5-5a0f-9d3a-0d7a4bd0a4a5")
"""Of the identifiers of nuclei: QuPath wants a UUID for each object, and equal results need equal ones."""


_DECIMALS = 3
"""Of coordinates where levels are not apart by a whole factor: far less than the half pixel that would move a pixel."""


class GeoJsonWriter(PlaneWriter):
    """Writes a FeatureCollection, one line per nucleus, as QuPath 0.4 and newer export and import it.

    Coordinates are (x, y) in pixels from the upper left corner of the image: whole numbers are corners of pixels, in
    QuPath as here. They are pixels of the finest resolution of the file, whichever was segmented: QuPath knows no
    others. QuPath's PathObjectTypeAdapter (io/QuPathTypeAdapters.java) takes measurements that are numbers
    only, and the time and Z of an object from the member ``plane`` of its geometry.
    """

    def __init__(self, path: Path, image: str, plane: Plane) -> None:
        super().__init__(path, image, plane)
        self._file = path.open("w", encoding="utf-8", newline="\n")
        self._file.write('{"type":"FeatureCollection","features":[')
        self._separator = "\n"

    def write_block(self, block: Block, table: Measures) -> None:
        """Write the nuclei of a block."""
        columns = {name: values.tolist() for name, values in table.items() if values.dtype.kind in "biuf"}
        for index, (label, polygons) in enumerate(block_outlines(block, table)):
            values = {name: column[index] for name, column in columns.items()}
            feature = {
                "type": "Feature",
                "id": str(uuid.uuid5(_NAMESPACE, f"{self.image}{self.plane.suffix}#{label}")),
                "geometry": self._geometry([[self._corners(ring) for ring in rings] for rings in polygons]),
                "properties": {
                    "objectType": "detection",
                    "name": str(label),
                    "measurements": {name: _number(value) for name, value in values.items() if not math.isnan(value)},
                },
            }
            self._file.write(self._separator + json.dumps(feature, separators=(",", ":"), allow_nan=False))
            self._separator = ",\n"

    def finish(self, *_: object) -> None:
        """End the collection."""
        self._file.write("\n]}\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _corners(self, ring: NDArray[np.intp]) -> list[list[float]]:
        at_finest = ring if self.plane.downsample == (1, 1) else np.round(ring * self.plane.downsample, _DECIMALS)
        return at_finest[:, ::-1].tolist()  # type: ignore[no-any-return]

    def _geometry(self, polygons: list[list[Any]]) -> dict[str, Any]:
        one = len(polygons) == 1
        geometry: dict[str, Any] = {
            "type": "Polygon" if one else "MultiPolygon",
            "coordinates": polygons[0] if one else polygons,
        }
        if self.plane.time is not None or self.plane.z is not None:
            geometry["plane"] = {"c": -1, "z": self.plane.z or 0, "t": self.plane.time or 0}
        return geometry


def _number(value: float | bool) -> float:
    """Return a measurement as the tables show it; QuPath knows no true and false."""
    return float(format(value, ".8g")) if isinstance(value, float) else int(value)
