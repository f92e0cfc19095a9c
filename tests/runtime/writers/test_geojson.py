"""Outlines for QuPath, read by shapely and painted again."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from numpy.typing import NDArray

from nuclei_runtime.readers.labels import open_labels
from nuclei_runtime.readers.outlines.opening import read_outlines
from nuclei_runtime.readers.plane import plane_of
from nuclei_runtime.steps.columns import describe_column


def painted(features: list[dict[str, Any]], shape: tuple[int, ...]) -> NDArray[np.int32]:
    """Paint each nucleus where the centre of a pixel lies in its geometry; each pixel at most once."""
    rows, columns = np.indices(shape) + 0.5
    labels = np.zeros(shape, np.int32)
    for feature in features:
        geometry = shapely.from_geojson(json.dumps(feature["geometry"]))
        assert geometry.is_valid, shapely.is_valid_reason(geometry)
        inside = shapely.contains_xy(geometry, columns, rows)
        assert not labels[inside].any()
        assert geometry.area == inside.sum()
        labels[inside] = feature["properties"]["measurements"]["label"]
    return labels


def test_the_outlines_are_those_of_the_labels_pixel_by_pixel(
    write_output: Callable[..., Path], odd_labels: NDArray[np.int32]
) -> None:
    path = write_output("geojson", odd_labels, pixel_size_um=(0.5, 0.5))
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document["type"] == "FeatureCollection"
    features = document["features"]
    np.testing.assert_array_equal(painted(features, odd_labels.shape), odd_labels)
    kinds = [feature["geometry"]["type"] for feature in features]
    assert kinds.count("MultiPolygon") == 1
    assert kinds.index("MultiPolygon") == odd_labels.max() - 2
    assert [feature["properties"]["name"] for feature in features] == [str(n) for n in range(1, len(features) + 1)]


def test_of_a_coarser_level_they_lie_on_the_finest(
    write_output: Callable[..., Path], odd_labels: NDArray[np.int32]
) -> None:
    """QuPath counts the pixels of the finest level, whichever was segmented."""
    path = write_output("geojson", odd_labels, downsample=(4.0, 2.0))
    finest = np.repeat(np.repeat(odd_labels, 4, axis=0), 2, axis=1)
    np.testing.assert_array_equal(painted(json.loads(path.read_text())["features"], finest.shape), finest)
    np.testing.assert_array_equal(read_outlines(path).at((4.0, 2.0)).labels(odd_labels.shape), odd_labels)
    path = write_output("geojson", odd_labels, downsample=(2967 / 700, 2220 / 601))
    plane = replace(plane_of(odd_labels), downsample=(2967 / 700, 2220 / 601))
    with open_labels(path) as file:
        height, width = odd_labels.shape
        read = file.of(plane).read(slice(0, height), slice(0, width))
    np.testing.assert_array_equal(read, odd_labels)


def test_qupath_takes_them_for_detections_with_measurements(
    write_output: Callable[..., Path], odd_labels: NDArray[np.int32]
) -> None:
    """QuPath's PathObjectTypeAdapter: an identifier is a UUID, and a measurement a number that is not NaN."""
    texts = [write_output("geojson", odd_labels).read_text(encoding="utf-8") for _ in range(2)]
    assert texts[0] == texts[1]
    features = json.loads(texts[0])["features"]
    assert len({uuid.UUID(feature["id"]) for feature in features}) == odd_labels.max()
    for number, feature in enumerate(features, 1):
        assert feature["type"] == "Feature"
        assert feature["properties"]["objectType"] == "detection"
        measurements = feature["properties"]["measurements"]
        assert all(describe_column(name) for name in measurements)
        assert {type(value) for value in measurements.values()} <= {int, float}
        nucleus = odd_labels == number
        assert measurements["area_px"] == nucleus.sum()
        assert ("circularity" in measurements) == (nucleus.sum() > 1)  # a single pixel has none
    assert features[-1]["properties"]["measurements"]["touches_border"] == 1
    assert "plane" not in features[0]["geometry"]


@pytest.mark.parametrize(
    ("place", "plane"),
    [({"time": 3}, {"c": -1, "z": 0, "t": 3}), ({"time": 0, "z": 2}, {"c": -1, "z": 2, "t": 0})],
)
def test_in_a_stack_they_lie_in_their_plane(
    write_output: Callable[..., Path], odd_labels: NDArray[np.int32], place: dict[str, int], plane: dict[str, int]
) -> None:
    features = json.loads(write_output("geojson", odd_labels, **place).read_text(encoding="utf-8"))["features"]
    assert all(feature["geometry"]["plane"] == plane for feature in features)


def test_without_nuclei_it_is_an_empty_collection(write_output: Callable[..., Path]) -> None:
    path = write_output("geojson", np.zeros((20, 30), np.int32))
    assert json.loads(path.read_text(encoding="utf-8")) == {"type": "FeatureCollection", "features": []}
