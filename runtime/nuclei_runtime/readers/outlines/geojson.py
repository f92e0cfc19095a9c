"""Outlines in GeoJSON, as QuPath exports its objects.

QuPath counts pixels as `Outline` does: whole numbers are corners. They are those of the finest resolution. A cell has
its nucleus beside its own outline (``nucleusGeometry``). What QuPath's own measurements ignore is ignored here too:
classes whose names end in ``*``. QuPath states the plane of each object except on the first plane of a stack
(ROITypeAdapter in io/ROITypeAdapters.java).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.errors import ImageReadError
from nuclei_runtime.readers.outlines.drawing import Outline, Outlines
from nuclei_runtime.wording import counted

_NO_NUCLEI = {"tile", "tma_core", "root"}
"""Types of QuPath's objects that are no nuclei, whatever their shape."""

_REGION_TIMES = 10
"""An annotation that is larger than the median outline by this factor and holds others is a region to look at."""


def read_geojson(_: str, content: bytes) -> Outlines:
    """Read the outlines of nuclei from the name and the content of a GeoJSON file.

    Raises
    ------
    ImageReadError
        It is not GeoJSON, or a polygon is damaged.
    """
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ImageReadError(f"cannot be decoded as GeoJSON; the file may be truncated: {error}") from error
    outlines: list[Outline] = []
    annotations: set[int] = set()
    left_out: Counter[str] = Counter()
    n_without_area = 0
    for feature in _features(document):
        properties = feature.get("properties")
        properties = properties if isinstance(properties, dict) else {}
        geometry = feature.get("nucleusGeometry") or feature.get("geometry")
        kind = geometry.get("type") if isinstance(geometry, dict) else None
        classified = _class_of(properties)
        if properties.get("objectType") in _NO_NUCLEI:
            left_out[f"{properties['objectType']}s of QuPath"] += 1
        elif classified.endswith("*"):
            left_out[f"class {classified}"] += 1
        elif kind not in ("Polygon", "MultiPolygon"):
            left_out[f"{kind or 'missing'} geometry, which has no area"] += 1
            n_without_area += 1
        else:
            assert isinstance(geometry, dict)
            if properties.get("objectType") == "annotation":
                annotations.add(len(outlines))
            outlines.append(_outline(geometry, properties, len(outlines) + 1))
    regions = _regions(outlines, annotations)
    left_out["annotations around others"] += len(regions)
    if any(outline.time is not None or outline.z is not None for outline in outlines):
        outlines = [replace(outline, time=outline.time or 0, z=outline.z or 0) for outline in outlines]
    kept = tuple(outline for index, outline in enumerate(outlines) if index not in regions)
    sentences = (f"left out {counted(n, 'object')}: {what}" for what, n in left_out.items() if n)
    return Outlines(kept, tuple(sentences), n_without_area, of_finest=True)


def _features(document: Any) -> Iterator[dict[str, Any]]:
    if isinstance(document, dict) and document.get("type") == "FeatureCollection":
        document = document.get("features")
    if isinstance(document, dict) and document.get("type") == "Feature":
        document = [document]
    if not isinstance(document, list) or not all(isinstance(feature, dict) for feature in document):
        raise ImageReadError("the file is JSON, but not GeoJSON; expected a FeatureCollection, as QuPath exports it")
    yield from document


def _class_of(properties: dict[str, Any]) -> str:
    classification = properties.get("classification")
    name = classification.get("name") if isinstance(classification, dict) else None
    return name if isinstance(name, str) else ""


def _outline(geometry: dict[str, Any], properties: dict[str, Any], place: int) -> Outline:
    try:
        parts = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
        rings = tuple(_ring(ring) for part in parts for ring in part)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ImageReadError(f"object {place} of the GeoJSON has no valid polygon: {error}") from error
    if not rings:
        raise ImageReadError(f"object {place} of the GeoJSON has a polygon without vertices")
    plane = geometry.get("plane")
    plane = plane if isinstance(plane, dict) else {}
    name = properties.get("name")
    time, z = (index if isinstance(index := plane.get(axis), int) else None for axis in "tz")
    return Outline(rings, name if isinstance(name, str) else "", time, z)


def _ring(ring: Any) -> NDArray[np.float64]:
    points = np.array([position[:2] for position in ring], np.float64)
    if points.ndim != 2 or points.shape[1:] != (2,) or len(points) < 3 or not np.isfinite(points).all():
        raise ValueError("a ring needs at least three vertices, each of two finite numbers")
    return points[:, ::-1]


def _regions(outlines: list[Outline], annotations: set[int]) -> set[int]:
    """Return the annotations that are regions: much larger than the nuclei, with the middles of two or more inside."""
    if not annotations:
        return set()
    areas = np.array([outline.area for outline in outlines])
    boxes = np.array([outline.box for outline in outlines])
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    found = set()
    for index in annotations:
        top, left, bottom, right = outlines[index].box
        smaller = areas * _REGION_TIMES < areas[index]
        inside = smaller & (middles > (top, left)).all(axis=1) & (middles < (bottom, right)).all(axis=1)
        n_inside = 0
        for row, column in np.floor(middles[inside]).astype(int).tolist():
            n_inside += bool(outlines[index].mask(slice(row, row + 1), slice(column, column + 1))[0, 0])
            if n_inside == 2:
                found.add(index)
                break
    return found
