"""Pixel sizes from every place where files state them, and numbers there that mean something else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from nuclei_runtime.readers.opening import open_planes
from nuclei_runtime.readers.pixel_size import in_micrometres
from nuclei_runtime.readers.plane import Selection

IMAGE = np.zeros((8, 9), np.uint8)


IMAGEJ = {"resolutionunit": "NONE", "metadata": None}


def pixel_size(path: Path, **options: Any) -> tuple[float, float] | None:
    tifffile.imwrite(path, IMAGE, **options)
    with open_planes(path, Selection()) as (plane,):
        return plane.pixel_size_um


@pytest.mark.parametrize(
    ("unit", "factor"), [("µm", 1.0), ("nm", 1e-3), ("mm", 1e3), ("Å", 1e-4), ("m", 1e6), ("in", 25_400.0)]
)
def test_ome_states_sizes_in_its_unit(unit: str, factor: float, tmp_path: Path) -> None:
    metadata = {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5, "PhysicalSizeXUnit": unit, "PhysicalSizeYUnit": unit}
    assert pixel_size(tmp_path / "a.ome.tif", ome=True, metadata=metadata) == pytest.approx(
        (0.5 * factor, 0.25 * factor)
    )


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"PhysicalSizeX": 0.2},
        *({"PhysicalSizeX": size, "PhysicalSizeY": 0.2} for size in (0.0, 1e-310, 1e305, "NaN", "INF")),
    ],
)
def test_a_size_that_is_missing_or_impossible_is_ignored(metadata: dict[str, Any], tmp_path: Path) -> None:
    assert pixel_size(tmp_path / "a.ome.tif", ome=True, metadata=metadata) is None


@pytest.mark.parametrize("unit", ["reference frame", "pixel"])
def test_a_unit_that_is_not_a_length_gives_no_size(unit: str, tmp_path: Path) -> None:
    metadata = {"PhysicalSizeX": 1, "PhysicalSizeY": 1, "PhysicalSizeXUnit": unit, "PhysicalSizeYUnit": unit}
    assert pixel_size(tmp_path / "a.ome.tif", ome=True, metadata=metadata) is None


@pytest.mark.parametrize(
    ("x_unit", "y_unit", "expected"),
    [("nm", "mm", (500.0, 0.25e-3)), ("µm", None, (0.5, 0.25)), ("pixel", "µm", None), ("µm", "reference frame", None)],
)
def test_each_axis_of_ome_has_its_unit(
    x_unit: str, y_unit: str | None, expected: tuple[float, float] | None, tmp_path: Path
) -> None:
    metadata = {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5, "PhysicalSizeXUnit": x_unit}
    if y_unit is not None:
        metadata["PhysicalSizeYUnit"] = y_unit
    found = pixel_size(tmp_path / "a.ome.tif", ome=True, metadata=metadata)
    assert found == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("units", "resolution", "expected"),
    [
        ("unit=micron\nyunit=nm\n", (4, 1 / 250), (0.25, 0.25)),
        ("unit=nm\nyunit=micron\n", (1 / 250, 4), (0.25, 0.25)),
        ("unit=mm\nyunit=cm\n", (4000, 20_000), (0.5, 0.25)),
        ("unit=micron\nyunit=sec\n", (4, 4), None),  # a kymograph
        ("unit=sec\nyunit=micron\n", (4, 4), None),
        ("yunit=micron\n", (4, 4), None),
        ("unit=micron\nyunit=inch\n", (4, 300), None),  # only one of them is of a printer
        ("unit=inch\nyunit=cm\n", (25_400, 20_000), (0.5, 1.0)),
        ("unit=micron\n", (4, 0), None),
    ],
)
def test_imagej_may_have_a_unit_for_each_axis(
    units: str, resolution: tuple[float, float], expected: tuple[float, float] | None, tmp_path: Path
) -> None:
    found = pixel_size(tmp_path / "a.tif", description=f"ImageJ=1.54f\n{units}", resolution=resolution, **IMAGEJ)
    assert found == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(("unit", "factor"), [("um", 1.0), ("micron", 1.0), (r"\u00B5m", 1.0), ("nm", 1e-3)])
def test_imagej_counts_pixels_a_unit(unit: str, factor: float, tmp_path: Path) -> None:
    found = pixel_size(tmp_path / "a.tif", imagej=True, resolution=(4.0, 2.0), metadata={"unit": unit})
    assert found == pytest.approx((0.5 * factor, 0.25 * factor))


def test_imagej_without_a_unit_gives_no_size(tmp_path: Path) -> None:
    assert pixel_size(tmp_path / "a.tif", imagej=True, resolution=(72.0, 72.0)) is None


@pytest.mark.parametrize(("unit", "per_unit"), [("inch", 300.0), ("cm", 40.0), ("inch", 1200.0)])
def test_a_printers_resolution_that_imagej_copied_is_not_a_size(unit: str, per_unit: float, tmp_path: Path) -> None:
    options = {"imagej": True, "metadata": {"unit": unit}}
    assert pixel_size(tmp_path / "a.tif", resolution=(per_unit, per_unit), **options) is None
    fine = pixel_size(tmp_path / "a.tif", resolution=(50_000.0, 25_000.0), **options)
    assert fine == pytest.approx((1.016, 0.508) if unit == "inch" else (0.4, 0.2))


@pytest.mark.parametrize("dpi", [72, 96, 300, 600, 1200])
def test_the_resolution_of_a_printer_or_a_screen_is_not_a_size(dpi: int, tmp_path: Path) -> None:
    assert pixel_size(tmp_path / "a.tif", resolution=(dpi, dpi), resolutionunit="INCH") is None


def test_tiff_states_the_resolution_of_a_microscope_in_centimetres_or_inches(tmp_path: Path) -> None:
    found = pixel_size(tmp_path / "a.tif", resolution=(40_000, 20_000), resolutionunit="CENTIMETER")
    assert found == pytest.approx((0.5, 0.25))
    assert pixel_size(tmp_path / "a.tif", resolution=(25_400, 25_400), resolutionunit="INCH") == pytest.approx((1, 1))
    assert pixel_size(tmp_path / "a.tif", resolution=(40_000, 40_000), resolutionunit="NONE") is None


@pytest.mark.parametrize("resolution", [(40_000, 0), (0, 40_000), (40_000, 300)])
def test_a_resolution_of_one_axis_is_not_half_used(resolution: tuple[float, float], tmp_path: Path) -> None:
    assert pixel_size(tmp_path / "a.tif", resolution=resolution, resolutionunit="CENTIMETER") is None


@pytest.mark.parametrize("size", [0.0, -1.0, float("nan"), float("inf")])
def test_a_number_that_cannot_be_a_size_is_ignored(size: float) -> None:
    assert in_micrometres((size, 1.0), ("um", "um")) is None
    assert in_micrometres((1.0, size), ("um", "um")) is None


def test_the_case_of_a_symbol_counts_but_not_that_of_a_name() -> None:
    assert in_micrometres((1.0, 1.0), ("Micron", "MILLIMETER")) == (1.0, 1000.0)
    for unit in ("Mm", "Pm", "NM"):  # megametres, petametres, and who knows
        assert in_micrometres((1.0, 1.0), (unit, unit)) is None


def test_the_pixel_size_is_given_for_files_that_do_not_state_it(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "plain.tif", IMAGE)
    with open_planes(tmp_path / "plain.tif", Selection(pixel_size_um=0.325)) as (plane,):
        assert plane.pixel_size_um == (0.325, 0.325)


@pytest.mark.parametrize(
    ("stated", "asked", "is_noted"),
    [((0.3251, 0.3251), 0.325, False), ((0.3251, 0.3251), 0.65, True), ((0.325, 0.65), 0.325, True)],
)
def test_a_file_keeps_the_pixel_size_that_it_states_and_a_note_says_if_another_was_given(
    stated: tuple[float, float], asked: float, is_noted: bool, tmp_path: Path
) -> None:
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, IMAGE, ome=True, metadata={"PhysicalSizeX": stated[1], "PhysicalSizeY": stated[0]})
    with open_planes(path, Selection(pixel_size_um=asked)) as (plane,):
        assert plane.pixel_size_um == stated
        assert len(plane.notes) == is_noted
        for note in plane.notes:
            assert f"a pixel is {stated[0]} x {stated[1]} um, so --pixel-size {asked} was not used" in note
