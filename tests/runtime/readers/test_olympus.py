"""OIF and OIB files, written here in the form that oiffile expects, and damaged ones."""

from __future__ import annotations

import io
import shutil
import struct
from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path

import numpy as np
import oiffile
import pytest
import tifffile

from nuclei_runtime.errors import ImageReadError, ImageShapeError
from nuclei_runtime.readers import format as format_module
from nuclei_runtime.readers.opening import open_planes, read_image
from nuclei_runtime.readers.plane import Selection
from nuclei_runtime.runs.inputs import find_images
from tests.contents import whole

STACK = np.random.default_rng(6).integers(0, 4096, (2, 3, 2, 40, 60)).astype(np.uint16)  # TZCYX
END, FREE, FAT = 0xFFFFFFFE, 0xFFFFFFFF, 0xFFFFFFFD
DYES = {"Channel 1 Parameters": {"DyeName": '"DAPI"'}, "Channel 2 Parameters": {"DyeName": '"Alexa 488"'}}


def text(sections: Mapping[str, Mapping[str, object]]) -> bytes:
    lines = [f"[{name}]\r\n" + "".join(f"{k}={v}\r\n" for k, v in pairs.items()) for name, pairs in sections.items()]
    return b"\xff\xfe" + "".join(lines).encode("utf-16-le")


def settings(order: str = "XYCZT", changes: Mapping[str, Mapping[str, object]] = DYES, **lengths: int) -> bytes:
    """Return the settings of `STACK`, with other sections and other lengths of axes where given."""
    of_axes = {"X": 60, "Y": 40, "C": 2, "Z": 3, "T": 2, "A": 0, "L": 0, "P": 0} | lengths
    sections: dict[str, Mapping[str, object]] = {
        "ProfileSaveInfo": {"Name": '"a.oif"', "Version": '"1.2.6.0"'},
        "Axis Parameter Common": {"AxisOrder": f'"{order}"'},
        "Reference Image Parameter": {
            "HeightConvertValue": "0.5", "HeightUnit": '"um"', "WidthConvertValue": "0.25", "WidthUnit": '"um"'
        },
    }  # fmt: skip
    for i, (axis, n) in enumerate(of_axes.items()):
        sections[f"Axis {i} Parameters Common"] = {"AxisCode": f'"{axis}"', "MaxSize": n}
    return text({**sections, **changes})


def tiff(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, image, metadata=None, photometric="minisblack", rowsperstrip=16)
    return buffer.getvalue()


def planes_of(stack: np.ndarray = STACK) -> dict[str, bytes]:
    return {
        f"s_C{c + 1:03d}Z{z + 1:03d}T{t + 1:03d}.tif": tiff(stack[t, z, c])
        for t, z, c in product(*map(range, stack.shape[:3]))
    }


def oif(path: Path, main: bytes, files: Mapping[str, bytes]) -> Path:
    path.write_bytes(main)
    folder = path.with_name(f"{path.name}.files")
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return path


def oib(path: Path, main: bytes, files: Mapping[str, bytes]) -> Path:
    """Write a compound file with one storage: small streams in the mini stream, as [MS-CFB] asks."""
    streams = {f"Stream{i:05d}": (f"Storage00001/{name}", content) for i, (name, content) in enumerate(files.items())}
    streams["Stream99999"] = ("a.oif", main)
    info = {
        "MainFileName": "Stream99999",
        "Storage00001": "a.oif.files",
        **{k: name for k, (name, _) in streams.items()},
    }
    contents = {"OibInfo.txt": text({"OibSaveInfo": info}), **{key: content for key, (_, content) in streams.items()}}
    sectors: list[bytes] = []
    fat: list[int] = []
    mini, mini_fat = b"", []

    def add(data: bytes, into: list[int], size: int) -> int:
        n, start = -(-len(data) // size), len(into)
        into.extend([*range(start + 1, start + n), END][:n])
        return start if n else END

    def add_sectors(data: bytes) -> int:
        start = add(data, fat, 512)
        sectors.extend(data[i : i + 512].ljust(512, b"\0") for i in range(0, len(data), 512))
        return start

    def entry(name: str, kind: int, right: int, child: int, start: int, size: int) -> bytes:
        encoded = name.encode("utf-16-le") + b"\0\0"
        return struct.pack(
            "<64sHBBIII16sIQQIQ", encoded, len(encoded), kind, 1, FREE, right, child, b"", 0, 0, 0, start, size
        )

    entries = []
    for i, (name, content) in enumerate(contents.items()):
        if len(content) < 4096:
            start = add(content, mini_fat, 64)
            mini += content.ljust(-(-len(content) // 64) * 64, b"\0")
        else:
            start = add_sectors(content)
        right = 2 if i == 0 else FREE if i + 1 == len(contents) else i + 3
        entries.append(entry(name, 2, right, FREE, start, len(content)))
    root = entry("Root Entry", 5, FREE, 1, add_sectors(mini), len(mini))
    directory = [root, entries[0], entry("Storage00001", 1, FREE, 3, 0, 0), *entries[1:]]
    directory += [bytes(128)] * (-len(directory) % 4)
    directory_at = add_sectors(b"".join(directory))
    table = struct.pack(f"<{len(mini_fat)}I", *mini_fat)
    table += b"\xff" * (-len(table) % 512)
    mini_fat_at = add_sectors(table)
    n_fat = next(n for n in range(1, 110) if n * 128 >= len(fat) + n)
    numbers = range(len(fat), len(fat) + n_fat)
    all_fat = [*fat, *[FAT] * n_fat]
    all_fat += [FREE] * (n_fat * 128 - len(all_fat))
    header = struct.pack(
        "<8s16sHHHHHHIIIIIIIIII", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"", 0x3E, 3, 0xFFFE, 9, 6, 0, 0, 0, n_fat,
        directory_at, 0, 4096, mini_fat_at, len(table) // 512, END, 0,
    ) + struct.pack("<109I", *numbers, *[FREE] * (109 - n_fat))  # fmt: skip
    path.write_bytes(header + b"".join(sectors) + struct.pack(f"<{len(all_fat)}I", *all_fat))
    return path


Write = Callable[[Path, bytes, Mapping[str, bytes]], Path]
BOTH = pytest.mark.parametrize("write", [oif, oib])


@BOTH
def test_each_plane_is_read_with_its_channel_time_depth_and_size(tmp_path: Path, write: Write) -> None:
    files = {**planes_of(), "s_C001-R001.tif": tiff(STACK[0, 0, 0, :9]), "s_Thumb.bmp": b"BM", "s_C001.pty": b""}
    path = write(tmp_path / f"a [1].{write.__name__}", settings(), files)
    for c, channel in enumerate(("DAPI", "Alexa 488")):
        with open_planes(path, Selection(channel=channel, z="each")) as planes:
            assert [(plane.time, plane.z) for plane in planes] == [(t, z) for t in (0, 1) for z in range(3)]
            for plane in planes:
                expected = STACK[plane.time, plane.z, c]
                assert plane.pixel_size_um == (0.5, 0.25)
                assert np.array_equal(whole(plane), expected)
                assert np.array_equal(plane.read(slice(3, 20), slice(7, 31)), expected[3:20, 7:31])


@BOTH
def test_the_arrays_of_oiffile_are_the_same(tmp_path: Path, write: Write) -> None:
    path = write(tmp_path / f"a.{write.__name__}", settings(), planes_of())
    with oiffile.OifFile(path) as document, open_planes(path, Selection(channel=1, z="each")) as planes:
        assert (document.axes, document.shape) == ("TZCYX", STACK.shape)
        array = document.asarray()  # in the order of the names
        assert array.shape == (2, 3, 2, 40, 60)
        assert np.array_equal(whole(planes[4]), array[1, 1, 1])


def test_a_channel_and_a_stack_must_be_chosen(tmp_path: Path) -> None:
    path = oif(tmp_path / "a.oif", settings(), planes_of())
    with pytest.raises(ImageShapeError, match="DAPI"), open_planes(path, Selection(z="max")):
        pass
    with pytest.raises(ImageShapeError, match="--z"), open_planes(path, Selection(channel="DAPI")):
        pass


def test_a_single_plane_and_the_steps_of_a_sweep(tmp_path: Path) -> None:
    image = STACK[0, 0, 0]
    plain = settings("XYC", {"Channel 3 Parameters": {"CH Name": '"CH3"'}}, C=1)
    path = oif(tmp_path / "a.oif", plain, {"s_C003.tif": tiff(image)})
    assert np.array_equal(read_image(path), image)
    swept = settings("XYCL", C=1, L=3)
    path = oif(tmp_path / "b.oif", swept, {f"s_C001L{i + 1:03d}.tif": tiff(STACK[0, i, 0]) for i in range(3)})
    with open_planes(path, Selection(channel=2)) as (plane,):
        assert np.array_equal(whole(plane), STACK[0, 2, 0])


@pytest.mark.parametrize(
    ("changes", "channel"),
    [
        ({"Channel 1 Parameters": {"DyeName": '"None"', "CH Name": '"CHS1"'},
          "Channel 2 Parameters": {"DyeName": '"None"', "CH Name": '"CHS2"'}}, "CHS2"),
        ({**DYES, "GUI Channel 1 Parameters": {"CH Activate": 0, "DyeName": '"Cy5"'},
          "GUI Channel 2 Parameters": {"CH Activate": 1, "DyeName": '"DAPI"'},
          "GUI Channel 3 Parameters": {"CH Activate": 1, "DyeName": '"Alexa 488"'}}, "Alexa 488"),
        ({**DYES, "GUI Channel 1 Parameters": {"CH Activate": 1, "DyeName": '"Alexa 488"'},
          "GUI Channel 2 Parameters": {"CH Activate": 1, "DyeName": '"DAPI"'}}, "1"),
        ({name: {"DyeName": '"DAPI"'} for name in DYES}, "1"),
        ({}, "1"),
    ],
)  # fmt: skip
def test_a_channel_has_a_name_where_the_settings_agree_and_else_its_number(
    tmp_path: Path, changes: Mapping[str, Mapping[str, object]], channel: str
) -> None:
    path = oif(tmp_path / "a.oif", settings(changes=changes), planes_of())
    with open_planes(path, Selection(channel=1, z="max")) as planes:
        assert planes[0].channel == channel


@pytest.mark.parametrize(
    ("height", "unit", "expected"),
    [("0,207.0", "um", (0.207, 0.25)), ("207", "nm", (0.207, 0.25)), ("2.0", "ms", None), ("1,234.0", "um", None)],
)
def test_a_size_that_is_not_plain_is_not_believed(
    tmp_path: Path, height: str, unit: str, expected: tuple[float, float] | None
) -> None:
    reference = {"HeightConvertValue": height, "HeightUnit": unit, "WidthConvertValue": "0.25", "WidthUnit": "um"}
    main = settings(changes={"Reference Image Parameter": reference})
    path = oif(tmp_path / "a.oif", main, planes_of())
    with open_planes(path, Selection(channel=0, z="max")) as planes:
        assert planes[0].pixel_size_um == (pytest.approx(expected) if expected else None)


PLANES = planes_of()
FEWER = {name: content for name, content in PLANES.items() if "Z003" not in name}
HOLED = {name: content for name, content in PLANES.items() if name != "s_C001Z002T002.tif"}


@BOTH
@pytest.mark.parametrize(
    ("main", "files", "error", "message"),
    [
        (settings("XTC", T=10_000), {"s_C001.tif": PLANES["s_C001Z001T001.tif"]}, ImageShapeError, "axes XTC"),
        (settings(""), PLANES, ImageReadError, "do not state the order of its axes"),
        (settings(), FEWER, ImageReadError, "claims a length of 3 along Z, but its planes have 2"),
        (settings("XYC"), PLANES, ImageReadError, "claims a length of 1 along Z, but its planes have 3"),
        (settings(), HOLED, ImageReadError, "incomplete: it has 11 planes"),
        (settings(), {"s_C001-R001.tif": b""}, ImageReadError, "holds no planes"),
        (settings(), {**PLANES, "s_C001.tif": b""}, ImageReadError, "contradicts that of another plane"),
        (settings(), {"s_C001C002.tif": b""}, ImageReadError, "contradicts that of another plane, or itself"),
        (settings("XYP", P=2), {f"s_P00{i}.tif": PLANES["s_C001Z001T001.tif"] for i in (1, 2)}, ImageShapeError,
         "an axis P that is not understood"),
        (settings("XYCL", L=2), {f"s_C00{c}L00{i}.tif": b"" for c, i in product((1, 2), (1, 2))}, ImageShapeError,
         "sweeps wavelengths in several channels"),
        (settings(), {**PLANES, "s_C002Z001T001.tif": tiff(STACK[0, 0, 0, :9])}, ImageReadError, "another has"),
        (settings(), {**PLANES, "s_C002Z001T001.tif": PLANES["s_C001Z001T001.tif"][:-99]}, ImageReadError, "truncated"),
        (settings(), {**PLANES, "s_C002Z001T001.tif": tiff(STACK[0, 0])}, ImageReadError, "not one grey image"),
    ],
)  # fmt: skip
def test_what_is_incomplete_or_contradictory_is_refused(
    tmp_path: Path, write: Write, main: bytes, files: Mapping[str, bytes], error: type[Exception], message: str
) -> None:
    path = write(tmp_path / f"a.{write.__name__}", main, files)
    with pytest.raises(error, match=message), open_planes(path, Selection(channel=1, z="max")) as planes:
        whole(planes[0])


def test_the_folder_of_an_oif_belongs_to_it(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    path = oif(tmp_path / "in" / "a.oif", settings(), PLANES)
    assert [file.name for file in find_images([tmp_path / "in"], out=tmp_path / "out").files] == ["a.oif"]
    shutil.rmtree(tmp_path / "in" / "a.oif.files")
    with pytest.raises(ImageReadError, match=r"are in the folder a\.oif\.files beside it, which is missing; copy both"):
        read_image(path)


def test_a_chain_in_a_circle_ends(tmp_path: Path) -> None:
    path = oib(tmp_path / "a.oib", settings(), PLANES)
    data = bytearray(path.read_bytes())
    (fat_at,), (mini_at,) = struct.unpack_from("<I", data, 76), struct.unpack_from("<I", data, 60)
    for table in (fat_at, mini_at):
        turned = bytearray(data)
        struct.pack_into("<II", turned, (table + 1) * 512, 1, 0)  # the second sector is followed by the first
        path.write_bytes(turned)
        with pytest.raises(ImageReadError, match="runs in a circle"):
            read_image(path)


def test_without_its_package_the_message_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = oib(tmp_path / "a.oib", settings(), PLANES)
    monkeypatch.setattr(format_module, "find_spec", lambda name: None if name == "oiffile" else True)
    with pytest.raises(
        ImageReadError, match=r'oiffile is not installed; install it with: pip install "nuclei-edge\[olympus\]"'
    ):
        read_image(path)


@BOTH
def test_damaged_files_are_refused_or_read(
    tmp_path: Path, write: Write, read_damaged: Callable[[Path, int], list[tuple[str, str]]]
) -> None:
    path = write(tmp_path / f"a.{write.__name__}", settings(), PLANES)
    if write is oif:
        shutil.copytree(tmp_path / "a.oif.files", tmp_path / "damaged.oif.files")
    found = read_damaged(path, 100)
    assert {kind for kind, _ in found} <= {"read", "ImageReadError", "ImageShapeError", "ImageValueError"}
