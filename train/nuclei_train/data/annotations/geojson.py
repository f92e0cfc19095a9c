"""GeoJSON (RFC 7946), as QuPath exports its objects.

An object is a feature: a Polygon or a MultiPolygon, in pixels of the image. Of a cell of QuPath, only the nucleus
counts (``nucleusGeometry``). An annotation of QuPath that contains several detections or cells is the region in which
they were found, and becomes no nucleus.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from nuclei_train.data.annotations.drawing import NO_OUTLINE, REGION, AnnotationFile, Drawing, LeftOut
from nuclei_train.data.annotations.json_text import parse_json
from nuclei_train.data.annotations.polygons import Outline, draw_outlines, ring
from nuclei_train.errors import DatasetError

_FOUND_IN_REGION = 2
"""An annotation around one detection may be a second outline of it."""


def read_geojson(file: AnnotationFile) -> Drawing:
    """Read the objects of one image.

    Raises
    ------
    ImageError
        The size of the image is not known, because it cannot be read.
    DatasetError
        The file is not GeoJSON, or an outline is damaged.
    """
    size = file.image_size()
    drawn: list[tuple[str, Outline]] = []
    left_out: list[LeftOut] = []
    for number, feature in enumerate(_features(parse_json(file.content, file.name), file.name), start=1):
        where = f"{file.name}, object {number}"
        properties = feature.get("properties") or {}
        geometry = feature.get("nucleusGeometry") or feature.get("geometry") or {}
        if not isinstance(geometry, dict) or not isinstance(properties, dict):
            raise DatasetError(f"{where}: expected an object of GeoJSON; export it again")
        parts = _parts(geometry, where)
        if parts:
            kind = str(properties.get("objectType", properties.get("object_type", ""))).lower()
            drawn.append((kind, Outline(where, parts)))
        else:
            left_out.append(LeftOut(NO_OUTLINE, f"{where}: {geometry.get('type') or 'no geometry'}"))
    regions = list(_regions(drawn))
    left_out += [LeftOut(REGION, f"{region.where}: contains detections or cells") for region in regions]
    nuclei, outside = draw_outlines(
        (outline for _, outline in drawn if not any(outline is region for region in regions)), size
    )
    return Drawing(size, nuclei, (*left_out, *outside))


def _features(document: Any, name: str) -> list[dict[str, Any]]:
    """Return the features of a collection, of QuPath's plain list, or of a document that is one feature."""
    if isinstance(document, dict):
        document = document.get("features") if document.get("type") == "FeatureCollection" else [document]
    if not isinstance(document, list) or not all(
        isinstance(feature, dict) and feature.get("type") == "Feature" for feature in document
    ):
        raise DatasetError(
            f"{name}: is not GeoJSON; expected a FeatureCollection or a list of features, as QuPath exports them (for "
            "labelme and other programs: export COCO JSON or label images)"
        )
    return list(document)


def _parts(geometry: dict[str, Any], where: str) -> tuple[Any, ...]:
    """Return the rings of each piece of a geometry; none if it has no area."""
    coordinates: Any = geometry.get("coordinates")
    polygons: list[Any]
    if geometry.get("type") == "Polygon":
        polygons = [coordinates]
    elif geometry.get("type") == "MultiPolygon" and isinstance(coordinates, list):
        polygons = coordinates
    else:
        return ()
    if not all(isinstance(rings, list) and rings for rings in polygons):
        raise DatasetError(f"{where}: its {geometry['type']} has no rings; export it again")
    return tuple(tuple(ring(one, where) for one in rings) for rings in polygons)


def _regions(drawn: list[tuple[str, Outline]]) -> Iterator[Outline]:
    from skimage.measure import points_in_poly

    found = [outline.parts[0][0].mean(axis=0) for kind, outline in drawn if kind in ("detection", "cell")]
    for kind, outline in drawn if len(found) >= _FOUND_IN_REGION else ():
        if kind == "annotation":
            inside = np.sum([points_in_poly(found, part[0]) for part in outline.parts])
            if inside >= _FOUND_IN_REGION:
                yield outline
