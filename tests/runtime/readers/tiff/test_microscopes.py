"""LSM and STK: a stack written by the rules of MetaMorph, and an LSM that ZEN wrote, as tifffile reads them."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from nuclei_runtime.errors import ImageShapeError
from nuclei_runtime.readers.opening import open_planes, read_image
from nuclei_runtime.readers.plane import Selection
from tests.contents import whole

PLANES = np.random.default_rng(8).integers(0, 4000, (3, 12, 16)).astype("<u2")


def write_stk(path: Path, *, z_um: int, um: float = 0.25) -> Path:
    """Write a MetaMorph stack: one directory, whose UIC2Tag counts the planes that follow each other."""
    n, height, width = PLANES.shape
    uic1 = {0: 0, 1: 0, 3: 1, 4: None, 5: None, 6: None}  # spatial calibration, its values and its unit
    pixels_at = 8
    end = pixels_at + PLANES.nbytes
    rational = struct.pack("<II", int(um * 1000), 1000)
    unit = struct.pack("<I", 3) + b"um\0"
    # Each plane: distance in Z (rational), creation and modification day and time.
    uic2 = b"".join(struct.pack("<IIIIII", z_um, 1, 2459000, 1000 * i, 2459000, 1000 * i) for i in range(n))
    uic3 = struct.pack("<II", 450, 1) * n
    uic1_at = end + len(rational) + len(unit) + len(uic2) + len(uic3)
    places = {4: end, 5: end, 6: end + len(rational)}
    entries1 = b"".join(struct.pack("<II", key, places.get(key, value or 0)) for key, value in uic1.items())
    ifd_at = uic1_at + len(entries1)
    uic2_at = end + len(rational) + len(unit)
    tags = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 1, 16),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (273, 4, 1, pixels_at),
        (277, 3, 1, 1),
        (278, 4, 1, height),
        (279, 4, 1, PLANES[0].nbytes),
        (33628, 4, len(uic1), uic1_at),
        (33629, 5, n, uic2_at),
        (33630, 5, n, uic2_at + len(uic2)),
    ]
    ifd = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    path.write_bytes(
        b"II*\0" + struct.pack("<I", ifd_at) + PLANES.tobytes() + rational + unit + uic2 + uic3 + entries1 + ifd
    )
    return path


def test_a_z_stack_of_metamorph_is_read(tmp_path: Path) -> None:
    path = write_stk(tmp_path / "a.stk", z_um=2)
    with pytest.raises(ImageShapeError, match="Z stack of 3 planes"):
        read_image(path)
    with open_planes(path, Selection(z="each")) as planes:
        for plane, expected in zip(planes, PLANES, strict=True):
            assert plane.pixel_size_um == pytest.approx((0.25, 0.25))
            assert np.array_equal(whole(plane), expected)
            assert np.array_equal(plane.read(slice(3, 7), slice(2, 9)), expected[3:7, 2:9])


def test_a_time_series_of_metamorph_is_read(tmp_path: Path) -> None:
    with open_planes(write_stk(tmp_path / "a.stk", z_um=0), Selection()) as planes:
        assert [plane.time for plane in planes] == [0, 1, 2]
        assert all(np.array_equal(whole(plane), expected) for plane, expected in zip(planes, PLANES, strict=True))


def test_damaged_stacks_are_refused_or_read(tmp_path: Path, read_damaged: Callable[..., Any]) -> None:
    assert len(read_damaged(write_stk(tmp_path / "a.stk", z_um=2), 80)) == 80


@pytest.mark.vendor_files
def test_an_lsm_of_zen_as_tifffile_reads_it(vendor_files: Path) -> None:
    path = vendor_files / "lsm" / "032113-18.lsm"
    expected = tifffile.imread(path)
    with pytest.raises(ImageShapeError, match=r"3 channels .*: 0 Ch1-T1, 1 Ch2-T2, 2 T PMT-T2"):
        open_planes(path, Selection()).__enter__()
    for channel in range(3):
        with open_planes(path, Selection(channel=channel)) as (plane,):
            assert plane.pixel_size_um == pytest.approx((1.0378, 1.0378), rel=1e-3)
            assert np.array_equal(whole(plane), expected[channel])


@pytest.mark.vendor_files
def test_damaged_lsm_of_zen(vendor_files: Path, tmp_path: Path, read_damaged: Callable[..., Any]) -> None:
    copy = tmp_path / "a.lsm"
    copy.write_bytes((vendor_files / "lsm" / "032113-18.lsm").read_bytes())
    assert len(read_damaged(copy, 40)) == 40


METASERIES = """<MetaData>
<prop id="ApplicationName" type="string" value="MetaMorph"/>
<PlaneInfo>
<prop id="spatial-calibration-state" type="bool" value="on"/>
<prop id="spatial-calibration-x" type="float" value="1.3672"/>
<prop id="spatial-calibration-y" type="float" value="0.6836"/>
<prop id="spatial-calibration-units" type="string" value="um"/>
<custom-prop id="Z Step" type="float" value="1"/>
</PlaneInfo>
<SetInfo></SetInfo>
</MetaData>"""


@pytest.mark.parametrize(
    ("old", "new", "um"),
    [
        ("", "", (0.6836, 1.3672)),
        ('value="on"', 'value="off"', None),
        ('value="um"', 'value="pixel"', None),
        ('value="0.6836"', 'value="none"', None),
        ("</PlaneInfo>", "", None),
        ("<MetaData>", "<MetaData><!DOCTYPE a>", None),
    ],
)
def test_a_plane_of_metaxpress_states_its_pixel_size_in_xml(
    tmp_path: Path, old: str, new: str, um: tuple[float, float] | None
) -> None:
    path = tmp_path / "a.tif"
    description = METASERIES.replace(old, new, 1)
    tifffile.imwrite(path, np.zeros((8, 9), np.uint16), description=description, metadata=None, software="MetaSeries")
    with open_planes(path, Selection()) as (plane,):
        assert plane.pixel_size_um == um


@pytest.mark.parametrize("tags", [[(65500, 7, 4, b"<a/>", True)], [(271, 2, 0, "PerkinElmer", True)]])
def test_the_resolution_in_a_plane_of_harmony_is_that_of_the_camera(tmp_path: Path, tags: list[tuple[object]]) -> None:
    """6.45 um is the size of the pixels on the sensor. The index of the plate says 1.196 um."""
    path = tmp_path / "a.tiff"
    resolution = {"resolution": (1 / 6.45e-4, 1 / 6.45e-4), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, np.zeros((8, 9), np.uint16), metadata=None, extratags=tags, **resolution)
    with open_planes(path, Selection()) as (plane,):
        assert plane.pixel_size_um is None
    tifffile.imwrite(path, np.zeros((8, 9), np.uint16), metadata=None, **resolution)
    with open_planes(path, Selection()) as (plane,):
        assert plane.pixel_size_um == pytest.approx((6.45, 6.45))
