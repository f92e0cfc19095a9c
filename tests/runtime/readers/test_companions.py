"""Formats whose pixels are in the folder beside the file, and slides that OpenSlide puts together."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import tifffile

from nuclei_runtime.errors import ImageReadError
from nuclei_runtime.readers.formats import companion_of
from nuclei_runtime.readers.opening import open_planes, read_image
from nuclei_runtime.readers.openslide import open_slide
from nuclei_runtime.readers.plane import Selection
from nuclei_runtime.runs.inputs import find_images
from nuclei_runtime.runs.sources import digest_source
from tests.contents import whole

RGB = np.random.default_rng(5).integers(0, 255, (100, 140, 3)).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An image of each format with a companion, whose folder holds a file that would itself be an image."""
    folder = tmp_path / "in"
    for _name, companion in (("a.vsi", "_a_"), ("b.mrxs", "b")):
        (folder / companion).mkdir(parents=True)
        tifffile.imwrite(folder / companion / "frame.tif", RGB)
    tifffile.imwrite(folder / "a.vsi", RGB)
    (folder / "b.mrxs").write_bytes(b"\xff\xd8\xff\xe0 the thumbnail of a slide")
    return folder


def test_a_companion_is_no_folder_of_images(folder: Path, tmp_path: Path) -> None:
    assert companion_of(folder / "a.vsi") == folder / "_a_"
    assert [file.name for file in find_images([folder], out=tmp_path / "out").files] == ["a.vsi", "b.mrxs"]
    shutil.rmtree(folder / "b")
    assert companion_of(folder / "b.mrxs") is None


def test_an_image_has_changed_if_its_companion_has(folder: Path, tmp_path: Path) -> None:
    file = find_images([folder / "a.vsi"], out=tmp_path / "out").files[0]
    before = digest_source(file)
    assert digest_source(file) == before
    (folder / "_a_" / "frame.tif").write_bytes(b"other")
    assert digest_source(file) != before


def test_without_its_companion_it_is_refused_and_not_its_overview_read(folder: Path) -> None:
    shutil.rmtree(folder / "_a_")
    with pytest.raises(ImageReadError, match="are in the folder _a_ beside it, which is missing; copy both"):
        read_image(folder / "a.vsi")
    with pytest.raises(ImageReadError):
        read_image(folder / "b.mrxs")


def test_openslide_reads_the_area_and_the_levels(tmp_path: Path) -> None:
    """A plain tiled TIFF stands for a slide of Ventana, which needs the same calls."""
    path = tmp_path / "a.bif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(RGB, tile=(64, 64), metadata=None)
        writer.write(RGB[::2, ::2], tile=(64, 64), subfiletype=1, metadata=None)
    with open_planes(path, Selection()) as (plane,):
        assert (plane.shape, plane.reads_blocks) == (RGB.shape, True)
        assert np.array_equal(whole(plane), RGB)
        assert np.array_equal(plane.read(slice(40, 90), slice(5, 130)), RGB[40:90, 5:130])
    with open_planes(path, Selection(level=1)) as (plane,):
        assert np.array_equal(whole(plane), RGB[::2, ::2])


@pytest.mark.vendor_files
def test_openslide_agrees_with_tifffile(vendor_files: Path) -> None:
    path = vendor_files / "slides" / "CMU-1-Small-Region.svs"
    rows, columns = slice(1000, 1100), slice(500, 900)
    with ExitStack() as resources, open_planes(path, Selection()) as (plane,):
        stack = open_slide(path, resources)
        assert stack.pixel_size_um == pytest.approx(plane.pixel_size_um)
        assert np.array_equal(stack.read((), rows, columns), plane.read(rows, columns))


@pytest.mark.vendor_files
def test_a_vsi_of_a_microscope(vendor_files: Path) -> None:
    path = vendor_files / "vsi" / "vsi-ets-test-jpg2k.vsi"
    with open_planes(path, Selection(channel="c405", z="each")) as planes:
        assert len(planes) == 11
        assert (planes[4].shape, planes[4].dtype) == ((1682, 1645), np.uint16)
        assert planes[4].pixel_size_um == pytest.approx((0.1083, 0.1083), rel=1e-3)
        image = whole(planes[4])
        assert image.max() == 2007
        assert np.array_equal(planes[4].read(slice(300, 410), slice(900, 1600)), image[300:410, 900:1600])
