"""CZI files: written by pylibCZIrw, damaged ones, and those that ZEN wrote."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pylibCZIrw import czi

from nuclei_runtime.errors import ImageReadError, ImageShapeError
from nuclei_runtime.readers.opening import open_planes, read_image
from nuclei_runtime.readers.plane import Selection
from tests.contents import whole

RNG = np.random.default_rng(11)
STACK = RNG.integers(0, 4000, (2, 3, 2, 40, 56)).astype(np.uint16)  # TZCYX


def write(path: Path, stack: np.ndarray, *, compression: str | None = None, um: float | None = 0.25) -> Path:
    """Write a CZI of axes TZCYX."""
    with czi.create_czi(str(path), compression_options=compression) as document:
        for t, z, c in np.ndindex(stack.shape[:3]):
            document.write(stack[t, z, c][..., np.newaxis], plane={"T": t, "Z": z, "C": c})
        names = dict(enumerate(("DAPI", "GFP")[: stack.shape[2]]))
        scale = {} if um is None else {"scale_x": um * 1e-6, "scale_y": 2 * um * 1e-6}
        document.write_metadata("written", channel_names=names, **scale)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "stack.czi", STACK)


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """Two scenes far apart, the first of two tiles that overlap."""
    path = tmp_path / "scenes.czi"
    with czi.create_czi(str(path)) as document:
        for number, (x, y) in ((0, (100, 200)), (0, (130, 200)), (1, (5000, 90))):
            document.write(STACK[0, 0, 0][..., np.newaxis], location=(x, y), plane={"C": 0}, scene=number)
    return path


def test_planes_channels_and_the_pixel_size_are_those_written(file: Path) -> None:
    with open_planes(file, Selection(channel="gfp", z="each")) as planes:
        assert [plane.suffix for plane in planes] == [f"_t{t:03d}_z{z:03d}" for t in range(2) for z in range(3)]
        for plane in planes:
            assert plane.pixel_size_um == pytest.approx((0.5, 0.25))
            assert (plane.shape, plane.dtype, plane.reads_blocks) == ((40, 56), np.uint16, True)
            assert np.array_equal(whole(plane), STACK[plane.time, plane.z, 1])
            assert np.array_equal(plane.read(slice(3, 9), slice(17, 50)), STACK[plane.time, plane.z, 1, 3:9, 17:50])
    with open_planes(file, Selection(channel=0, z="max")) as planes:
        assert np.array_equal(whole(planes[1]), STACK[1, :, 0].max(0))


@pytest.mark.parametrize("compression", ["zstd0:ExplicitLevel=2", "zstd1:ExplicitLevel=2;PreProcess=HiLoByteUnpack"])
def test_zstandard_is_read(tmp_path: Path, compression: str) -> None:
    path = write(tmp_path / "a.czi", STACK[:1, :1, :1], compression=compression)
    assert np.array_equal(read_image(path), STACK[0, 0, 0])


def test_colours_are_red_green_blue(tmp_path: Path) -> None:
    rgb = RNG.integers(0, 255, (30, 20, 3)).astype(np.uint8)
    with czi.create_czi(str(tmp_path / "a.czi")) as document:
        document.write(rgb[..., ::-1].copy(), plane={"C": 0})  # it takes blue, green, red
    assert np.array_equal(read_image(tmp_path / "a.czi"), rgb)
    with open_planes(tmp_path / "a.czi", Selection(channel="red")) as (plane,):
        assert np.array_equal(whole(plane), rgb[..., 0])


def test_bytes_are_read_like_the_file(file: Path) -> None:
    with open_planes(file.read_bytes(), Selection(channel=0, z="max")) as planes:
        assert np.array_equal(whole(planes[0]), STACK[0, :, 0].max(0))


def test_several_scenes_are_chosen_or_refused(scenes: Path) -> None:
    with pytest.raises(ImageShapeError, match=r"holds 2 images; choose with --scene each"):
        open_planes(scenes, Selection()).__enter__()
    with pytest.raises(ImageShapeError, match="holds 2 images; save the one to use as a file of its own"):
        read_image(scenes)
    with open_planes(scenes, Selection(scene="each")) as planes:
        assert [(plane.suffix, plane.shape) for plane in planes] == [("_s00", (40, 86)), ("_s01", (40, 56))]
        mosaic, single = map(whole, planes)
        assert np.array_equal(mosaic[:, 30:], STACK[0, 0, 0])
        assert np.array_equal(mosaic[:, :30], STACK[0, 0, 0, :, :30])
        assert np.array_equal(single, STACK[0, 0, 0])
    with open_planes(scenes, Selection(scene=1)) as (plane,):
        assert (plane.suffix, plane.scene_label) == ("_s01", "1")
    with pytest.raises(ImageShapeError, match="no scene 2; its scenes: 0, 1"):
        open_planes(scenes, Selection(scene="2")).__enter__()


def test_planes_that_were_not_taken_are_no_black_images(tmp_path: Path) -> None:
    """Neither is one of a channel that was taken now and then, nor of a scene that is shorter than another."""
    path = tmp_path / "gaps.czi"
    with czi.create_czi(str(path)) as document:
        for scene, t, z, c in np.ndindex(2, 2, 3, 2):
            if (scene == 0 or t == 0) and (c == 0 or z == 1):
                plane = {"T": t, "Z": z, "C": c}
                document.write(STACK[t, z, c][..., np.newaxis], plane=plane, scene=scene, location=(500 * scene, 0))
        document.write_metadata("written", channel_names={0: "DAPI", 1: "GFP"})
    with open_planes(path, Selection(channel="DAPI", scene="each", z="each", measure=("GFP",))) as planes:
        assert [(plane.scene, plane.time, plane.z) for plane in planes] == [
            *((0, t, z) for t in range(2) for z in range(3)),
            *((1, 0, z) for z in range(3)),
        ]
        assert all(np.array_equal(whole(plane), STACK[plane.time, plane.z, 0]) for plane in planes)
        for plane in planes:  # it was taken at a single depth
            (gfp,) = plane.measured
            assert np.array_equal(gfp.read(slice(0, 40), slice(0, 56)), STACK[plane.time, 1, 1])
    with open_planes(path, Selection(channel="GFP", scene=0)) as planes:
        assert [plane.suffix for plane in planes] == ["_s00_t000", "_s00_t001"]
        assert all(np.array_equal(whole(plane), STACK[plane.time, 1, 1]) for plane in planes)


def test_colours_of_which_one_was_not_taken_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "gaps.czi"
    with czi.create_czi(str(path)) as document:
        for t, c in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1)):
            document.write((STACK[t, 0, 0] >> 4).astype(np.uint8)[..., np.newaxis], plane={"T": t, "C": c})
    with open_planes(path, Selection(channel="rgb")) as (whole_one, other):
        assert whole(whole_one).shape == (40, 56, 3)
        with pytest.raises(ImageReadError, match="no pixels of channel 2 at time 1 and depth 0"):
            whole(other)


def test_a_line_scan_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "line.czi", STACK[:, :1, :1, :1])
    with pytest.raises(ImageShapeError, match="line scan of 56 pixels"):
        read_image(path)


def test_phases_that_belong_together_are_refused(tmp_path: Path) -> None:
    data = bytearray(write(tmp_path / "a.czi", STACK[:, :1, :1]).read_bytes())
    for at in range(len(data) - 20):
        if data[at : at + 4] == b"T\0\0\0" and struct.unpack_from("<i", data, at + 8) == (1,):
            data[at : at + 1] = b"H"
    with pytest.raises(ImageShapeError, match="2 phases of each plane"):
        read_image(bytes(data))


def test_without_its_extra_the_message_says_what_to_install(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nuclei_runtime.readers.format.find_spec", lambda _: None)
    with pytest.raises(ImageReadError, match=r'pylibCZIrw is not installed; .* pip install "nuclei-edge\[czi\]"'):
        read_image(file)


def test_czifile_is_never_imported(file: Path) -> None:
    """On Python 3.11 pip installs its version of 2019, which fails on Zstandard."""
    with open_planes(file, Selection(channel=0, z="max")):
        assert "czifile" not in sys.modules


@pytest.mark.parametrize(
    ("at", "value", "reason"),
    [
        (b"ZISRAWDIRECTORY", struct.pack("<i", 2**31 - 1), "holds 2147483647 tiles"),
        (b"ZISRAWDIRECTORY", struct.pack("<i", 0), "holds 0 tiles"),
        (b"ZISRAWSUBBLOCK", struct.pack("<iiq", 0, 0, 2**50), "claims 1125899906842624 bytes"),
        (b"ZISRAWMETADATA", struct.pack("<i", 2**31 - 1), "metadata claim 2147483647 bytes"),
    ],
)
def test_a_claim_that_cannot_be_is_refused_before_libczi_sees_it(
    file: Path, at: bytes, value: bytes, reason: str
) -> None:
    data = bytearray(file.read_bytes())
    start = data.index(at) + 32
    data[start : start + len(value)] = value
    with pytest.raises(ImageReadError, match=reason):
        open_planes(bytes(data), Selection(channel=0, z="max")).__enter__()


def test_damaged_files_are_refused_or_read(file: Path, read_damaged: Callable[..., Any]) -> None:
    kinds = {kind for kind, _ in read_damaged(file, 80)}
    assert "ImageReadError" in kinds
    assert kinds <= {"read", "ImageReadError", "ImageShapeError", "ImageValueError"}


@pytest.mark.vendor_files
@pytest.mark.parametrize(
    ("name", "scene", "channels", "shape", "um"),
    [
        ("CellDivision_T3_Z5_CH2_X240_Y170", None, ["LED555", "LED470"], (170, 240), 0.0906),
        ("nuc_small", None, [0], (240, 320), 0.4572),
        ("DAPI_GFP", None, ["DAPI", "GFP"], (640, 640), None),
        ("S3_1Pos_2Mosaic_T2Z3_CH2_sm", "TR1", ["DAPI", "EGFP"], (122, 295), 1.6),
        ("S3_1Pos_2Mosaic_T2Z3_CH2_sm", "P1", ["DAPI", "EGFP"], (64, 64), 1.6),
        ("S3_1Pos_2Mosaic_T2Z3_CH2_sm", "TR2", ["DAPI", "EGFP"], (237, 352), 1.6),
        ("WellD6-7_S2", "D7", ["AF488"], (440, 544), 0.1),
        ("1_tileregion", None, ["EGFP"], (570, 1480), 0.4),
    ],
)
def test_files_of_zen_as_slideio_reads_them(
    vendor_files: Path,
    name: str,
    scene: str | None,
    channels: list[str | int],
    shape: tuple[int, int],
    um: float | None,
) -> None:
    import slideio

    path = vendor_files / "czi" / f"{name}.czi"
    other = slideio.open_slide(str(path), "CZI")
    for index, channel in enumerate(channels):
        with open_planes(path, Selection(channel=channel, z="each", scene=scene)) as planes:
            for plane in planes:
                assert plane.shape == shape
                assert plane.pixel_size_um == (None if um is None else pytest.approx((um, um), rel=1e-3))
                z, t = plane.z or 0, plane.time or 0
                theirs = other.get_scene(plane.scene or 0).read_block(
                    channel_indices=[index], slices=(z, z + 1), frames=(t, t + 1)
                )
                assert np.array_equal(whole(plane), theirs)


@pytest.mark.vendor_files
def test_a_file_of_zen_in_zstandard_and_a_line_scan(vendor_files: Path) -> None:
    name = "CellDivision_T3_Z6_CH1_X300_Y200_DCV_ZSTD.czi"
    with open_planes(vendor_files / "czi" / name, Selection(z="each")) as planes:
        assert len(planes) == 18
        assert {(plane.shape, plane.dtype) for plane in planes} == {((200, 300), np.dtype(np.uint16))}
        assert whole(planes[2]).std() > 100
    assert read_image(vendor_files / "czi" / "FOV7_HV110_P0500510000.czi").shape == (512, 512)
    with pytest.raises(ImageShapeError, match="line scan of 512 pixels"):
        read_image(vendor_files / "czi" / "xt-scan-lsm980.czi")


@pytest.mark.vendor_files
def test_damaged_files_of_zen(vendor_files: Path, tmp_path: Path, read_damaged: Callable[..., Any]) -> None:
    for name in ("nuc_small", "CellDivision_T3_Z6_CH1_X300_Y200_DCV_ZSTD"):
        copy = tmp_path / f"{name}.czi"
        copy.write_bytes((vendor_files / "czi" / f"{name}.czi").read_bytes())
        assert len(read_damaged(copy, 40)) == 40
