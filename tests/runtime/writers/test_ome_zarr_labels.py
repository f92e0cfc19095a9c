"""OME-Zarr labels, checked against the specification by ome-zarr-models and read as an image by the runtime."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray
from ome_zarr_models.v05.image_label import ImageLabel

from nuclei_runtime.readers.opening import open_planes
from nuclei_runtime.readers.plane import Selection
from nuclei_runtime.writers import ome_zarr_labels


def test_it_is_what_the_specification_calls_labels(
    write_output: Callable[..., Path], odd_labels: NDArray[np.int32], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ome_zarr_labels, "SMALLEST_LEVEL_PX", 40)
    monkeypatch.setattr(ome_zarr_labels, "CHUNK_PX", 64)
    path = write_output("ome-zarr", odd_labels, pixel_size_um=(0.5, 0.25), time=2)
    group = zarr.open_group(path, mode="r", zarr_format=3)
    found = ImageLabel.from_zarr(group).attributes.ome
    assert found.version == "0.5"
    assert "image-label" in json.loads((path / "zarr.json").read_text())["attributes"]["ome"]
    (multiscale,) = found.multiscales
    assert [(axis.name, axis.unit) for axis in multiscale.axes] == [("y", "micrometer"), ("x", "micrometer")]
    scales = [dataset.coordinateTransformations[0].scale for dataset in multiscale.datasets]
    assert scales == [[0.5, 0.25], [1, 0.5], [2, 1]]
    for level, dataset in enumerate(multiscale.datasets):
        np.testing.assert_array_equal(group[dataset.path][:], odd_labels[:: 2**level, :: 2**level])
        assert group[dataset.path].metadata.dimension_names == ("y", "x")


def test_the_runtime_reads_it_as_an_image(write_output: Callable[..., Path], odd_labels: NDArray[np.int32]) -> None:
    path = write_output("ome-zarr", odd_labels, pixel_size_um=(0.5, 0.25))
    with open_planes(path, Selection()) as (plane,):
        assert plane.pixel_size_um == (0.5, 0.25)
        np.testing.assert_array_equal(plane.read(slice(0, 150), slice(0, 130)), odd_labels)
        assert plane.dtype == np.uint16


def test_more_nuclei_than_16_bits_can_number(write_output: Callable[..., Path]) -> None:
    labels = np.zeros((600, 700), np.int32)
    labels[::2, ::2].flat[:65_536] = np.arange(1, 65_537)
    group = zarr.open_group(write_output("ome-zarr", labels), mode="r")
    assert group["0"].dtype == np.uint32
    np.testing.assert_array_equal(group["0"][:], labels)
    assert sorted(group) == ["0", "1"]


def test_equal_labels_give_equal_bytes(write_output: Callable[..., Path], odd_labels: NDArray[np.int32]) -> None:
    contents = []
    for _ in range(2):
        path = write_output("ome-zarr", odd_labels)
        contents.append({file.relative_to(path): file.read_bytes() for file in path.rglob("*") if file.is_file()})
    assert contents[0] == contents[1]
