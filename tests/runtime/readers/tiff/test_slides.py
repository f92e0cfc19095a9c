"""Slides in TIFF: written here by the rules of each scanner, damaged, and those of scanners as OpenSlide reads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.errors import ImageReadError, ImageShapeError
from nuclei_runtime.readers.opening import open_planes, read_image
from nuclei_runtime.readers.plane import Selection
from tests.contents import whole

GREY = fluorescence_field(2, height=160, width=224, n_nuclei=12)[0]
RGB = np.stack([GREY, 255 - GREY, GREY // 2], axis=2)
LABEL = np.full((40, 48, 3), 99, np.uint8)
SCN = """<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01">
<collection sizeX="9000000" sizeY="8000000">
<image name="overview"><pixels sizeX="48" sizeY="40"><dimension sizeX="48" sizeY="40" r="0" ifd="0"/></pixels>
<view sizeX="9000000" sizeY="8000000" offsetX="0" offsetY="0"/></image>
<image name="area 1"><pixels sizeX="224" sizeY="160"><dimension sizeX="224" sizeY="160" r="0" ifd="1"/>
<dimension sizeX="112" sizeY="80" r="1" ifd="2"/></pixels>
<view sizeX="112000" sizeY="80000" offsetX="10" offsetY="20"/></image>
</collection></scn>"""
QPI = """<?xml version="1.0" encoding="utf-16"?><PerkinElmer-QPI-ImageDescription><Name>{}</Name>
<Responsivity><Filter><Name>other</Name></Filter></Responsivity></PerkinElmer-QPI-ImageDescription>"""


def write_svs(path: Path) -> Path:
    description = "Aperio Image Library v12\r\n224x160 (64x64) LZW|AppMag = 20|MPP = 0.5000|Left = 1"
    with tifffile.TiffWriter(path) as writer:
        tiles: dict[str, Any] = {"tile": (64, 64), "compression": "lzw", "metadata": None, "description": description}
        writer.write(RGB, **tiles)
        writer.write(LABEL, metadata=None, description="thumbnail")
        writer.write(RGB[::2, ::2], **tiles)
        writer.write(LABEL, metadata=None, subfiletype=1, description="label 48x40")
        writer.write(LABEL, metadata=None, subfiletype=9, description="macro 48x40")
    return path


def write_scn(path: Path) -> Path:
    with tifffile.TiffWriter(path) as writer:
        writer.write(LABEL, metadata=None, description=SCN)
        for image in (RGB, RGB[::2, ::2]):
            writer.write(image, tile=(64, 64), compression="jpeg", compressionargs={"level": 99}, metadata=None)
    return path


def write_qptiff(path: Path) -> Path:
    with tifffile.TiffWriter(path) as writer:
        for name, image in (("DAPI", GREY), ("Cy3", 255 - GREY)):
            writer.write(
                image,
                compression="lzw",
                metadata=None,
                description=QPI.format(name),
                software="PerkinElmer-QPI",
                resolution=(20_000, 20_000),
                resolutionunit="centimeter",
            )
        writer.write(LABEL, metadata=None, software="PerkinElmer-QPI")
    return path


def test_of_an_svs_the_tissue_and_its_levels_are_read(tmp_path: Path) -> None:
    path = write_svs(tmp_path / "a.svs")
    with open_planes(path, Selection()) as (plane,):
        assert (plane.pixel_size_um, plane.reads_blocks, plane.suffix) == ((0.5, 0.5), True, "")
        assert np.array_equal(whole(plane), RGB)
        assert np.array_equal(plane.read(slice(50, 90), slice(60, 224)), RGB[50:90, 60:])
    for selection in (Selection(level=1), Selection(mpp=1.0)):
        with open_planes(path, selection) as (plane,):
            assert plane.pixel_size_um == (1.0, 1.0)
            assert np.array_equal(whole(plane), RGB[::2, ::2])
    with pytest.raises(ImageShapeError, match="the file has no level 2"):
        open_planes(path, Selection(level=2)).__enter__()


def test_jpeg_2000_of_an_svs_is_read_but_not_one_that_is_larger_than_its_tile(tmp_path: Path) -> None:
    path = tmp_path / "a.svs"
    tifffile.imwrite(
        path,
        RGB,
        tile=(64, 64),
        metadata=None,
        compression="APERIO_JP2000_RGB",
        compressionargs={"level": 0, "reversible": True},
        photometric="rgb",
        description="Aperio Image Library v12\r\n224x160|MPP = 0.5",
    )
    with open_planes(path, Selection()) as (plane,):
        assert plane.reads_blocks
        assert np.array_equal(plane.read(slice(50, 90), slice(60, 224)), RGB[50:90, 60:])
    data = path.read_bytes()
    at = data.index(b"\xff\x4f\xff\x51") + 8
    huge = data[:at] + (60_000).to_bytes(4, "big") * 2 + data[at + 8 :]
    with open_planes(huge, Selection()) as (plane,), pytest.raises(ImageReadError, match="JPEG 2000 of 60000 x 60000"):
        whole(plane)


def test_of_an_scn_the_areas_are_read_and_not_the_overview(tmp_path: Path) -> None:
    with open_planes(write_scn(tmp_path / "a.scn"), Selection(scene="each")) as (plane,):
        assert (plane.scene_label, plane.pixel_size_um) == ("area 1", (0.5, 0.5))
        assert np.abs(whole(plane).astype(int) - RGB).mean() < 8
    with open_planes(tmp_path / "a.scn", Selection(level=1)) as (plane,):
        assert (plane.shape, plane.pixel_size_um) == ((80, 112, 3), (1.0, 1.0))


def test_of_a_qptiff_the_channels_are_read_by_their_names(tmp_path: Path) -> None:
    path = write_qptiff(tmp_path / "a.qptiff")
    with pytest.raises(ImageShapeError, match=r"2 channels .*: 0 DAPI, 1 Cy3"):
        open_planes(path, Selection()).__enter__()
    with open_planes(path, Selection(channel="cy3")) as (plane,):
        assert plane.pixel_size_um == pytest.approx((0.5, 0.5))
        assert np.array_equal(whole(plane), 255 - GREY)


def test_without_codecs_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nuclei_runtime.readers.tiff.slides.has_imagecodecs", lambda: False)
    with pytest.raises(ImageReadError, match=r'imagecodecs is not installed; .*"nuclei-edge\[slides\]"'):
        read_image(write_svs(tmp_path / "a.svs"))


@pytest.mark.parametrize("write", [write_svs, write_scn, write_qptiff])
def test_damaged_slides_are_refused_or_read(
    write: Callable[[Path], Path], tmp_path: Path, read_damaged: Callable[..., Any]
) -> None:
    path = write(tmp_path / f"a.{write.__name__.removeprefix('write_')}")
    assert len(read_damaged(path, 60)) == 60


@pytest.mark.vendor_files
@pytest.mark.parametrize(("name", "n_levels"), [("CMU-1-Small-Region.svs", 1), ("test3-DAPI-2-(387).ndpi", 4)])
def test_slides_of_scanners_as_openslide_reads_them(vendor_files: Path, name: str, n_levels: int) -> None:
    import openslide

    path = vendor_files / "slides" / name
    with openslide.OpenSlide(path) as other:
        mpp = float(other.properties["openslide.mpp-x"])
        for level in range(n_levels):
            with open_planes(path, Selection(level=level)) as (plane,):
                height, width = plane.shape[:2]
                assert (width, height) == other.level_dimensions[level]
                assert plane.pixel_size_um == pytest.approx((mpp * 2**level, mpp * 2**level))
                rows, columns = slice(height // 3, height // 3 + 150), slice(width // 2, width // 2 + 200)
                at = columns.start * 2**level, rows.start * 2**level
                theirs = np.asarray(other.read_region(at, level, (200, 150)))[..., :3]
                assert np.array_equal(plane.read(rows, columns), theirs)


@pytest.mark.vendor_files
def test_a_qptiff_of_a_scanner(vendor_files: Path) -> None:
    path = vendor_files / "slides" / "small_vectra.qptiff"
    for index, name in enumerate(("DAPI", "FITC", "Cy3")):
        with open_planes(path, Selection(channel=name)) as (plane,):
            assert plane.pixel_size_um == pytest.approx((0.4965, 0.4965), rel=1e-3)
            assert np.array_equal(whole(plane), tifffile.imread(path, key=index))
