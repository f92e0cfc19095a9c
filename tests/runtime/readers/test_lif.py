"""LIF files: written here, damaged ones, and those that LAS X wrote, compared with liffile's own arrays."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import liffile
import numpy as np
import pytest

from nuclei_runtime.errors import ImageReadError, ImageShapeError
from nuclei_runtime.readers.opening import open_planes
from nuclei_runtime.readers.plane import Selection
from tests.contents import whole

IDS = {"X": 1, "Y": 2, "Z": 3, "T": 4, "L": 5, "M": 10}
RNG = np.random.default_rng(3)


def element(name: str, axes: str, image: np.ndarray, block: str, luts: Sequence[str], tags: Sequence[int]) -> str:
    """Return the XML of a series in C order, with a C or S axis for its channels."""
    strides = dict(zip(axes, image.strides, strict=True))
    channels = "".join(
        f'<ChannelDescription DataType="0" ChannelTag="{tag}" Resolution="{8 * image.itemsize}" '
        f'NameOfMeasuredQuantity="" Min="0" Max="255" Unit="" LUTName="{lut}" IsLUTInverted="0" '
        f'BytesInc="{i * strides.get("C", strides.get("S", 0))}" BitInc="0"/>'
        for i, (lut, tag) in enumerate(zip(luts, tags, strict=True))
    )
    dimensions = "".join(
        f'<DimensionDescription DimID="{IDS[axis]}" NumberOfElements="{n}" Origin="{5e-7 if axis == "L" else 0}" '
        f'Length="{(n - 1) * (5e-9 if axis == "L" else 5e-7)}" Unit="m" BitInc="0" BytesInc="{strides[axis]}"/>'
        for axis, n in zip(axes, image.shape, strict=True)
        if axis in IDS
    )
    return (
        f'<Element Name="{name}"><Data><Image><ImageDescription><Channels>{channels}</Channels>'
        f"<Dimensions>{dimensions}</Dimensions></ImageDescription></Image></Data>"
        f'<Memory Size="{image.nbytes}" MemoryBlockID="{block}"/></Element>'
    )


def write(path: Path, *series: tuple[str, str, np.ndarray], tags: Sequence[int] | None = None) -> Path:
    """Write a LIF of version 2: the XML, then the pixels of each series."""
    elements, blocks = [], []
    for i, (name, axes, image) in enumerate(series):
        n = image.shape[axes.index("C")] if "C" in axes else 3 if "S" in axes else 1
        luts = ("Blue", "Green", "Red", "Gray")[:n]
        elements.append(element(name, axes, image, f"MemBlock_{i}", luts, tags or [0] * n))
        label = f"MemBlock_{i}".encode("utf-16-le")
        content = struct.pack("<BQBI", 0x2A, image.nbytes, 0x2A, len(label) // 2) + label
        blocks.append(struct.pack("<II", 0x70, len(content)) + content + image.tobytes())
    xml = f'<LMSDataContainerHeader Version="2"><Element Name="all"><Children>{"".join(elements)}</Children></Element>'
    text = (xml + "</LMSDataContainerHeader>").encode("utf-16-le")
    header = struct.pack("<IIBI", 0x70, len(text) + 5, 0x2A, len(text) // 2)
    path.write_bytes(header + text + b"".join(blocks))
    return path


STACK = RNG.integers(0, 4000, (2, 3, 2, 20, 30)).astype("<u2")  # TZCYX


def test_planes_and_regions_are_those_written(tmp_path: Path) -> None:
    path = write(tmp_path / "a.lif", ("cells", "TZCYX", STACK))
    with liffile.LifFile(path) as document:
        assert np.array_equal(document.images[0].asarray(), STACK), "the writer above writes what liffile reads"
    with open_planes(path, Selection(channel="green", z="each")) as planes:
        assert len(planes) == 6
        for plane in planes:
            assert plane.pixel_size_um == pytest.approx((0.5, 0.5))
            assert (plane.scene_label, plane.reads_blocks, plane.dtype) == ("cells", True, np.uint16)
            assert np.array_equal(whole(plane), STACK[plane.time, plane.z, 1])
            assert np.array_equal(plane.read(slice(4, 9), slice(7, 30)), STACK[plane.time, plane.z, 1, 4:9, 7:])


def test_an_image_seen_from_the_side_is_turned(tmp_path: Path) -> None:
    """Scanned in XZ for each Y: the planes in X and Y are read across the frames."""
    frames = RNG.integers(0, 255, (5, 4, 6)).astype(np.uint8)  # YZX
    with open_planes(write(tmp_path / "a.lif", ("xzy", "YZX", frames)), Selection(z="each")) as planes:
        assert len(planes) == 4
        for plane in planes:
            assert np.array_equal(whole(plane), frames[:, plane.z])


def test_series_and_tiles_are_scenes(tmp_path: Path) -> None:
    tiles = RNG.integers(0, 255, (3, 6, 8)).astype(np.uint8)
    path = write(tmp_path / "a.lif", ("scan", "MYX", tiles), ("one", "YX", tiles[0]))
    with pytest.raises(ImageShapeError, match=r"holds 4 images; .* 0 scan, tile 0, 1 scan, tile 1"):
        open_planes(path, Selection()).__enter__()
    with open_planes(path, Selection(scene="each")) as planes:
        assert [plane.scene_label for plane in planes] == ["scan, tile 0", "scan, tile 1", "scan, tile 2", "one"]
        for plane, tile in zip(planes, (*tiles, tiles[0]), strict=True):
            assert np.array_equal(whole(plane), tile)


def test_steps_of_a_sweep_are_channels_named_by_their_wavelength(tmp_path: Path) -> None:
    sweep = RNG.integers(0, 255, (3, 6, 8)).astype(np.uint8)
    path = write(tmp_path / "a.lif", ("sweep", "LYX", sweep))
    with pytest.raises(ImageShapeError, match=r"channels .*: 0 500 nm, 1 505 nm, 2 510 nm"):
        open_planes(path, Selection()).__enter__()
    with open_planes(path, Selection(channel="505 nm")) as (plane,):
        assert np.array_equal(whole(plane), sweep[1])


def test_colours_are_in_the_order_of_their_tags(tmp_path: Path) -> None:
    bgr = RNG.integers(0, 255, (6, 8, 3)).astype(np.uint8)
    path = write(tmp_path / "a.lif", ("he", "YXS", bgr), tags=(3, 2, 1))
    with open_planes(path, Selection()) as (plane,):
        assert np.array_equal(whole(plane), bgr[..., ::-1])


@pytest.mark.parametrize(
    ("axes", "shape", "reason"),
    [
        ("ZX", (6, 8), "scan with axes ZX, not an image in X and Y"),
        ("TX", (6, 8), "scan with axes TX"),
        ("YX", (1, 8), "scan with axes X"),
    ],
)
def test_sections_and_lines_are_refused(tmp_path: Path, axes: str, shape: tuple[int, int], reason: str) -> None:
    path = write(tmp_path / "a.lif", ("scan", axes, np.zeros(shape, np.uint8)))
    with pytest.raises(ImageShapeError, match=reason):
        open_planes(path, Selection()).__enter__()


def test_pixels_beyond_the_end_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.lif", ("cells", "YX", STACK[0, 0, 0]))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ImageReadError, match="truncated or damaged"):
        open_planes(path, Selection()).__enter__()


def test_damaged_files_are_refused_or_read(tmp_path: Path, read_damaged: Callable[..., Any]) -> None:
    path = write(tmp_path / "a.lif", ("cells", "TZCYX", STACK), ("one", "YX", STACK[0, 0, 0]))
    assert {kind for kind, _ in read_damaged(path, 80)} <= {"read", "ImageReadError", "ImageShapeError"}


@pytest.mark.vendor_files
@pytest.mark.parametrize(
    "name",
    [
        "PR2729_frameOrderCombinedScanTypes",
        "LeicaLASX_wavelength-sweep_example",
        "LeicaLASX_xz-plane_example",
        "xz-example",
    ],
)
def test_files_of_las_x_as_liffile_reads_them(vendor_files: Path, name: str) -> None:
    path = vendor_files / "lif" / f"{name}.lif"
    compared = 0
    with liffile.LifFile(path) as document, open_planes(path, Selection(channel=0, z="each", scene="each")) as planes:
        for plane in planes:
            label, _, tile = str(plane.scene_label).partition(", tile ")
            series = next(image for image in document.images if image.path == label)
            if not {"Y", "X"} <= set(series.dims):
                with pytest.raises(ImageShapeError, match="is a scan with axes"):
                    whole(plane)
                continue
            at = {"T": plane.time or 0, "Z": plane.z or 0, "M": int(tile or 0)}
            index = tuple(slice(None) if dim in ("Y", "X") else at.get(dim, 0) for dim in series.dims)
            assert np.array_equal(whole(plane), series.asarray()[index])
            compared += 1
    assert compared > 10 or name == "LeicaLASX_xz-plane_example"
