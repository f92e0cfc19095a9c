"""The files that are written for a plane as its blocks arrive."""

from __future__ import annotations

import csv
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from nuclei_runtime import Segmenter
from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.readers.opening import open_planes
from nuclei_runtime.readers.plane import Selection, plane_of
from nuclei_runtime.segmentation.block_search import Grid
from nuclei_runtime.segmentation.blocks import Block, segment_plane
from nuclei_runtime.steps.nuclei_table import measure_nuclei
from nuclei_runtime.writers import label_tiff
from nuclei_runtime.writers import overlay_png as overlay
from nuclei_runtime.writers.nuclei_csv import table_rows
from nuclei_runtime.writers.outputs import LABELS, OVERLAYS, TABLES
from nuclei_runtime.writers.overlay_png import draw_overlay
from nuclei_runtime.writers.plane_files import write_plane_files

GRID = Grid(core_px=96, margin_px=48, max_margin_px=256)
FIELD, _ = fluorescence_field(5, height=230, width=290, n_nuclei=50)


def write(folder: Path, image: NDArray, blocks: Iterator[Block] | list[Block]) -> int:
    paths = {LABELS: folder / "labels.tif", OVERLAYS: folder / "overlay.png", TABLES: folder / "table.csv"}
    plane = replace(plane_of(image), pixel_size_um=(0.5, 0.5), time=3)
    return write_plane_files("=a.tif", plane, blocks, paths).n_nuclei


def rows_of(folder: Path) -> list[list[str]]:
    with (folder / "table.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


@pytest.fixture(scope="module")
def segmenter(tiled_model: Path) -> Segmenter:
    return Segmenter(tiled_model, threads=1)


def together(image: NDArray, segmenter: Segmenter) -> NDArray[np.int32]:
    labels = np.zeros(image.shape[:2], np.int32)
    for block in segment_plane(plane_of(image), segmenter.network, grid=GRID):
        labels[block.rows, block.columns] += block.labels
    return labels


@pytest.mark.parametrize("kind", ["grey", "RGB", "float"])
def test_blocks_leave_the_files_that_one_block_leaves(tmp_path: Path, segmenter: Segmenter, kind: str) -> None:
    """Byte for byte, including the measurements, wherever in the plane a nucleus is."""
    image = {"grey": FIELD, "RGB": np.dstack([FIELD, FIELD // 2, FIELD]), "float": FIELD / 7}[kind]
    labels = together(image, segmenter)
    assert labels.max() > 30
    whole = slice(0, image.shape[0]), slice(0, image.shape[1])
    for name, blocks in {
        "one": [Block(*whole, image, labels)],
        "many": segment_plane(plane_of(image), segmenter.network, grid=GRID),
    }.items():
        (tmp_path / name).mkdir()
        assert write(tmp_path / name, image, blocks) == labels.max()
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "many" / path.name).read_bytes(), path.name
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "many/labels.tif"), labels)
    with Image.open(tmp_path / "many/overlay.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), draw_overlay(image, labels))
        assert "scale" not in picture.info
    header, *rows = rows_of(tmp_path / "many")
    table = measure_nuclei(image, labels, pixel_size_um=(0.5, 0.5))
    assert header == ["image", "time", *table]
    expected = table_rows({"image": "=a.tif", "time": 3}, table)
    assert rows == [["" if cell is None else str(cell) for cell in row] for row in expected]
    assert [int(row[header.index("label")]) for row in rows] == list(range(1, labels.max() + 1))


def test_a_large_plane_is_written_as_a_pyramid_without_clock_or_version(
    tmp_path: Path, segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_tiff, "MAX_STRIPS_PX", 100)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write(tmp_path / name, FIELD, segment_plane(plane_of(FIELD), segmenter.network, grid=GRID))
    assert (tmp_path / "one/labels.tif").read_bytes() == (tmp_path / "two/labels.tif").read_bytes()
    with tifffile.TiffFile(tmp_path / "one/labels.tif") as tiff:
        page = tiff.pages.first
        assert page.is_tiled
        assert not tiff.is_bigtiff
        assert page.dtype == np.uint16
        assert page.compression.name == "ADOBE_DEFLATE"
        assert not {"DateTime", "Software"} & {tag.name for tag in page.tags}
        labels = together(FIELD, segmenter)
        np.testing.assert_array_equal(tiff.asarray(), labels)
        (series,) = tiff.series
        assert (series.kind, len(series.levels)) == ("ome", 2)
        height, width = (length // 4 for length in FIELD.shape)
        np.testing.assert_array_equal(series.levels[1].asarray(), labels[2::4, 2::4][:height, :width])


@pytest.mark.parametrize(("shape", "factors"), [((290, 4097), (4,)), ((3, 70_000), ()), ((65, 100_000), (4, 16, 64))])
def test_the_last_level_of_a_pyramid_is_small(tmp_path: Path, shape: tuple[int, int], factors: tuple[int, ...]) -> None:
    """Labels that are different in each pixel, and levels that end within a tile."""
    labels = np.arange(shape[0] * shape[1], dtype=np.uint32).reshape(shape) % 60_000
    label_tiff.save_labels(tmp_path / "labels.tif", labels, (0.5, 0.25))
    with tifffile.TiffFile(tmp_path / "labels.tif") as tiff:
        levels = [level.asarray() for level in tiff.series[0].levels]
    assert len(levels) == 1 + len(factors)
    np.testing.assert_array_equal(levels[0], labels)
    for level, factor in zip(levels[1:], factors, strict=True):
        expected = labels[factor // 2 :: factor, factor // 2 :: factor]
        np.testing.assert_array_equal(level, expected[: shape[0] // factor, : shape[1] // factor])
    with open_planes(tmp_path / "labels.tif", Selection()) as (plane,):
        assert plane.pixel_size_um == (0.5, 0.25)


@pytest.mark.parametrize("side_px", [100, 4096])
def test_labels_are_deflated_by_the_library_that_is_always_there(
    tmp_path: Path, segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch, side_px: int
) -> None:
    """tifffile would use imagecodecs if it is installed: the same labels, but other bytes."""
    monkeypatch.setattr(label_tiff, "MAX_STRIPS_PX", side_px)
    write(tmp_path, FIELD, segment_plane(plane_of(FIELD), segmenter.network, grid=GRID))
    with tifffile.TiffFile(tmp_path / "labels.tif") as tiff:
        page = tiff.pages.first
        tiff.filehandle.seek(page.dataoffsets[0])
        stored = tiff.filehandle.read(page.databytecounts[0])
    assert stored == zlib.compress(zlib.decompress(stored))


def many_nuclei(n: int) -> Iterator[Block]:
    """Blocks of single pixels, each a nucleus, in two bands."""
    labels = np.zeros((300, 300), np.int32)
    labels.ravel()[:n] = np.arange(1, n + 1)
    for rows in (slice(0, 150), slice(150, 300)):
        yield Block(rows, slice(0, 300), np.zeros((150, 300), np.uint8), labels[rows])


@pytest.mark.parametrize(("n", "dtype"), [(65_535, np.uint16), (65_536, np.uint32)])
@pytest.mark.parametrize("tiled", [False, True])
def test_labels_have_32_bits_only_if_16_are_not_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n: int, dtype: type, tiled: bool
) -> None:
    monkeypatch.setattr(label_tiff, "MAX_STRIPS_PX", 100 if tiled else 4096)
    monkeypatch.setattr(label_tiff, "_MAX_CLASSIC_BYTES", 4 * 300 * 300)
    assert write(tmp_path, np.zeros((300, 300), np.uint8), many_nuclei(n)) == n
    with tifffile.TiffFile(tmp_path / "labels.tif") as tiff:
        assert tiff.pages.first.dtype == dtype
        assert tiff.is_bigtiff == (tiled and dtype == np.uint32)
        read = tiff.asarray()
    assert read.max() == n
    assert np.array_equal(read.ravel()[:n], np.arange(1, n + 1))


@pytest.mark.parametrize("colours", [False, True])
def test_a_huge_overlay_is_scaled_down_and_says_so(
    tmp_path: Path, segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch, colours: bool
) -> None:
    """290 columns shown in at most 60: each pixel is the mean of five, or of those that exist."""
    monkeypatch.setattr(overlay, "MAX_OVERLAY_PX", 60)
    monkeypatch.setattr(overlay, "_REGION_PX", 64)
    image = np.dstack([FIELD, FIELD // 2, FIELD]) if colours else FIELD
    image = image[:228]
    write(tmp_path, image, segment_plane(plane_of(image), segmenter.network, grid=GRID))
    assert overlay.overlay_scale(image.shape) == 5
    with Image.open(tmp_path / "overlay.png") as picture:
        assert picture.info == {"scale": "1:5"}
        found = np.asarray(picture)
    assert found.shape == (46, 58, 3)
    labels = together(image, segmenter)
    middles = labels[np.minimum(np.arange(2, 230, 5), 227)][:, np.arange(2, 290, 5)]
    padded = np.full((230, *image.shape[1:]), np.nan)
    padded[:228] = image
    means = np.nanmean(padded.reshape(46, 5, 58, 5, -1), axis=(1, 3))
    limits = overlay.percentile_limits(image, overlay.LOWER_PERCENT, overlay.UPPER_PERCENT)
    expected = np.broadcast_to((overlay.normalise(means, *limits) * 255).round().astype(np.uint8), found.shape).copy()
    overlay._outline(expected, middles)
    np.testing.assert_array_equal(found, expected)
    assert (found == overlay.OUTLINE_RGB).all(axis=-1).sum() > 50


def test_a_huge_overlay_shows_a_coarser_level_that_is_fine_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six pixels in one: levels of 2 and 4 will do, one of 8 will not, and the finest is not read."""
    monkeypatch.setattr(overlay, "_REGION_PX", 64)

    def refuse(_rows: slice, _columns: slice) -> np.ndarray:
        raise AssertionError("the finest level was read")

    image = np.dstack([FIELD, FIELD // 2, FIELD])[:228]
    two, four, eight = (image[n // 2 :: n, n // 2 :: n] for n in (2, 4, 8))
    plane = replace(plane_of(image), read=refuse, coarser=tuple(map(plane_of, (two, four, eight))))
    found = overlay.draw_plane(plane, 6)
    assert found.shape == (38, 49, 3)
    rows, columns = (
        np.minimum((6 * np.arange(n) + 3) * have // length, have - 1)
        for n, have, length in ((38, len(four), 228), (49, four.shape[1], 290))
    )
    limits = overlay.percentile_limits(four, overlay.LOWER_PERCENT, overlay.UPPER_PERCENT)
    expected = (overlay.normalise(four, *limits) * 255).round().astype(np.uint8)[np.ix_(rows, columns)]
    np.testing.assert_array_equal(found, expected)


def test_one_pixel_of_an_overlay_may_stand_for_more_than_a_region(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overlay, "MAX_OVERLAY_PX", 60)
    monkeypatch.setattr(overlay, "_REGION_PX", 64)
    image = np.arange(5000, dtype=np.uint32)[np.newaxis]
    blocks = [Block(slice(0, 1), slice(0, 10), image[:, :10], np.zeros((1, 10), np.int32))]
    assert write(tmp_path, image, blocks) == 0
    assert overlay.overlay_scale(image.shape) == 84
    with Image.open(tmp_path / "overlay.png") as picture:
        assert picture.size == (60, 1)
        assert picture.getpixel((0, 0)) < (5, 5, 5) < (250, 250, 250) < picture.getpixel((59, 0))


@pytest.mark.parametrize("size", [(0.325, 0.325), (0.2, 0.1), (0.0113, 0.0113)])
def test_labels_keep_the_pixel_size(tmp_path: Path, size: tuple[float, float]) -> None:
    plane = replace(plane_of(FIELD), pixel_size_um=size)
    labels = np.zeros(FIELD.shape, np.int32)
    block = Block(slice(0, FIELD.shape[0]), slice(0, FIELD.shape[1]), FIELD, labels)
    write_plane_files("a.tif", plane, [block], {LABELS: tmp_path / "labels.tif"})
    with open_planes(tmp_path / "labels.tif", Selection()) as (found,):
        assert found.pixel_size_um == pytest.approx(size, rel=1e-5)


@pytest.mark.parametrize("size", [None, (1e-9, 1e-9), (1e20, 1e20)])
def test_labels_have_no_resolution_if_there_is_none_to_write(tmp_path: Path, size: tuple[float, float] | None) -> None:
    plane = replace(plane_of(FIELD), pixel_size_um=size)
    block = Block(slice(0, FIELD.shape[0]), slice(0, FIELD.shape[1]), FIELD, np.zeros(FIELD.shape, np.int32))
    write_plane_files("a.tif", plane, [block], {LABELS: tmp_path / "labels.tif"})
    with tifffile.TiffFile(tmp_path / "labels.tif") as tiff:
        assert tiff.pages.first.resolutionunit == 1
