"""Regions of TIFFs, for every way of storing them, with and without imagecodecs, and how little is read for one."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from nuclei_runtime.errors import ImageReadError
from nuclei_runtime.readers.bounds import CACHE_BYTES
from nuclei_runtime.readers.opening import open_planes, read_image
from nuclei_runtime.readers.plane import Selection
from nuclei_runtime.readers.tiff.segments import Segments

RNG = np.random.default_rng(24)
GREY = np.cumsum(RNG.integers(-3, 4, (150, 133)), axis=1).astype(np.uint16)
RGB = np.clip(np.dstack([GREY, GREY[::-1], GREY[:, ::-1]]) % 300, 0, 255).astype(np.uint8)

STORED: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
    "one strip": (GREY, {}),
    "strips": (GREY, {"rowsperstrip": 7}),
    "strips big-endian": (GREY, {"rowsperstrip": 7, "byteorder": ">"}),
    "tiles": (GREY, {"tile": (32, 48)}),
    "tiles that lie as strips": (GREY[:, :128], {"tile": (16, 128)}),
    "bigtiff": (GREY, {"bigtiff": True, "tile": (32, 32)}),
    "deflate": (GREY, {"compression": "zlib", "predictor": True, "rowsperstrip": 11}),
    "deflate tiles of float": (GREY / np.float32(7), {"compression": "zlib", "tile": (64, 64)}),
    "lzw tiles": (GREY, {"compression": "lzw", "predictor": True, "tile": (32, 48)}),
    "zstd tiles": (GREY, {"compression": "zstd", "tile": (32, 48)}),
    "packbits": (RGB, {"compression": "packbits", "photometric": "rgb", "rowsperstrip": 10}),
    "masks": (GREY % 7 < 3, {"rowsperstrip": 9}),
    "rgb strips": (RGB, {"photometric": "rgb", "rowsperstrip": 4}),
    "rgb tiles": (RGB, {"photometric": "rgb", "tile": (48, 32), "compression": "zlib"}),
    "rgb planes": (np.moveaxis(RGB, -1, 0), {"photometric": "rgb", "planarconfig": "separate", "tile": (32, 32)}),
    "white is zero": (GREY, {"photometric": "miniswhite", "tile": (32, 32)}),
}


def write(path: Path, case: str) -> np.ndarray:
    """Write the case and return the expected pixels."""
    image, options = STORED[case]
    tifffile.imwrite(path, image, **options)
    image = np.moveaxis(image, 0, -1) if "planes" in case else image
    return np.invert(image) if "white" in case else image


def windows(height: int, width: int) -> list[tuple[slice, slice]]:
    """Return the whole image, corners, single pixels and regions in between."""
    found = [
        (slice(0, height), slice(0, width)),
        (slice(0, 1), slice(0, 1)),
        (slice(height - 1, height), slice(width - 1, width)),
    ]
    for _ in range(12):
        (top, bottom), (left, right) = (np.sort(RNG.choice(n + 1, 2, replace=False)) for n in (height, width))
        found.append((slice(int(top), int(bottom)), slice(int(left), int(right))))
    return found


@pytest.mark.parametrize("case", STORED)
def test_any_region_equals_that_part_of_the_whole(case: str, tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    image = write(path, case)
    with open_planes(path, Selection()) as (plane,):
        assert plane.reads_blocks
        assert (plane.shape, plane.dtype) == (image.shape, image.dtype)
        for rows, columns in windows(*image.shape[:2]):
            assert np.array_equal(plane.read(rows, columns), image[rows, columns])


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_packed_pixels_in_which_0_is_white_are_inverted_within_their_bits(tmp_path: Path, bits: int) -> None:
    """They are read into 16 bits, of which the rest would become 1."""
    stored, path = GREY % (1 << bits), tmp_path / "a.tif"
    tifffile.imwrite(path, stored, photometric="miniswhite", bitspersample=bits, byteorder="<")
    assert np.array_equal(read_image(path), (1 << bits) - 1 - stored)


def test_regions_of_jpeg_tiles_are_nearly_what_pillow_reads(tmp_path: Path) -> None:
    path = tmp_path / "slide.tif"
    tifffile.imwrite(path, RGB, photometric="rgb", tile=(64, 64), compression="jpeg", compressionargs={"level": 95})
    with open_planes(path, Selection()) as (plane,):
        assert plane.reads_blocks
        part = plane.read(slice(30, 140), slice(20, 120))
    code = "import sys, numpy as np, tifffile\nfrom nuclei_runtime.readers.opening import read_image\n"
    whole = np.load(io.BytesIO(without_imagecodecs(code + "np.save(sys.stdout.buffer, read_image(sys.argv[1]))", path)))
    assert whole.shape == RGB.shape
    assert np.abs(part.astype(int) - whole[30:140, 20:120]).max() <= 2


def without_imagecodecs(code: str, *arguments: object) -> bytes:
    """Run code in an interpreter that does not find imagecodecs."""
    code = "import sys\nsys.modules['imagecodecs'] = None\n" + code
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, check=True, env={**os.environ, "PYTHONUTF8": "1"})
    assert done.stderr == b""
    return done.stdout


def test_without_imagecodecs_the_pixels_are_the_same(tmp_path: Path) -> None:
    cases = [*STORED, "lzw rgb deep", "packbits float"]
    for case in STORED:
        np.save(tmp_path / f"{case}.npy", write(tmp_path / f"{case}.tif", case))
    deep = {"photometric": "rgb", "compression": "lzw"}
    tifffile.imwrite(tmp_path / "lzw rgb deep.tif", RGB.astype(np.uint16) * 200, **deep)
    differences = {"compression": "packbits", "predictor": 3}  # libtiff would take them for values
    tifffile.imwrite(tmp_path / "packbits float.tif", GREY / np.float32(7), **differences)
    code = (
        "import numpy as np\nfrom pathlib import Path\n"
        "from nuclei_runtime.readers.opening import open_planes\nfrom nuclei_runtime.readers.plane import Selection\n"
        "for case in sys.argv[2:]:\n"
        "    path = Path(sys.argv[1], case + '.tif')\n"
        "    try:\n"
        "        with open_planes(path, Selection()) as (plane,):\n"
        "            part = plane.read(slice(9, 90), slice(3, 99))\n"
        "            same = np.array_equal(part, np.load(path.with_suffix('.npy'))[9:90, 3:99])\n"
        "            print(case, plane.reads_blocks, same, sep='|')\n"
        "    except Exception as error: print(case, type(error).__name__, error, sep='|')\n"
    )
    lines = [line.split("|") for line in without_imagecodecs(code, tmp_path, *cases).decode().splitlines()]
    whole = {"lzw tiles", "zstd tiles"}  # by Pillow
    assert lines[:-2] == [[case, str(case not in whole), "True"] for case in STORED]
    for case, *refused in lines[-2:]:
        assert case in cases[-2:]
        assert refused[0] == "ImageReadError"
        assert 'pip install "nuclei-edge[codecs]"' in refused[1]
    assert np.array_equal(read_image(tmp_path / "lzw rgb deep.tif"), RGB.astype(np.uint16) * 200)
    assert np.array_equal(read_image(tmp_path / "packbits float.tif"), GREY / np.float32(7))


@pytest.mark.parametrize("planar", ["separate", "contig"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_without_imagecodecs_channels_in_one_page_are_refused(tmp_path: Path, planar: str, dtype: type) -> None:
    """Pillow would silently return only the first channel."""
    channels = np.stack([np.zeros_like(GREY), GREY], axis=0 if planar == "separate" else -1).astype(dtype)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, channels, photometric="minisblack", planarconfig=planar, compression="lzw", metadata=None)
    code = (
        "from nuclei_runtime.readers.opening import open_planes; from nuclei_runtime.readers.plane import Selection\n"
        "try:\n"
        "    with open_planes(sys.argv[1], Selection(channel='1')) as planes: print('read', planes)\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    printed = without_imagecodecs(code, path).decode()
    assert printed.startswith("ImageReadError ")
    assert 'pip install "nuclei-edge[codecs]"' in printed
    with open_planes(path, Selection(channel="1")) as (plane,):
        assert np.array_equal(plane.read(slice(0, 50), slice(0, 60)), GREY[:50, :60].astype(dtype))


def test_without_imagecodecs_stacks_are_read_page_by_page(tmp_path: Path) -> None:
    stack = np.stack([GREY, GREY[::-1], GREY + 1])
    tifffile.imwrite(tmp_path / "a.tif", stack, compression="lzw", photometric="minisblack", metadata=None)
    np.save(tmp_path / "a.npy", stack)
    code = (
        "import numpy as np\nfrom nuclei_runtime.readers.opening import open_planes\n"
        "from nuclei_runtime.readers.plane import Selection\n"
        "stack = np.load(sys.argv[1] + '.npy')\n"
        "rows, columns = slice(5, 50), slice(7, 40)\n"
        "with open_planes(sys.argv[1] + '.tif', Selection(axes='ZYX', z='each')) as planes:\n"
        "    print([np.array_equal(planes[z].read(rows, columns), stack[z, rows, columns]) for z in range(3)])\n"
        "with open_planes(sys.argv[1] + '.tif', Selection(axes='ZYX', z='max')) as (plane,):\n"
        "    print(np.array_equal(plane.read(rows, columns), stack.max(0)[rows, columns]))\n"
    )
    assert without_imagecodecs(code, tmp_path / "a").decode().split("\n")[:2] == ["[True, True, True]", "True"]


def test_one_directory_may_stand_for_many_planes(tmp_path: Path) -> None:
    """As ImageJ writes stacks larger than 4 GB."""
    stack = np.stack([GREY + i for i in range(6)]).reshape(3, 2, *GREY.shape)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, stack, imagej=True, metadata={"axes": "ZCYX"})
    buffer.seek(0)  # tifffile starts where the file stands
    with tifffile.TiffFile(buffer) as tiff:
        at = tiff.pages[0].offset + 2 + 12 * len(tiff.pages[0].tags)  # type: ignore[union-attr]
    data = bytearray(buffer.getvalue())
    data[at : at + 4] = bytes(4)  # no next directory
    path = tmp_path / "large.tif"
    path.write_bytes(data)
    with open_planes(path, Selection(channel=1, z="each")) as planes:
        for z, plane in enumerate(planes):
            assert plane.reads_blocks
            assert np.array_equal(plane.read(slice(4, 99), slice(0, 133)), stack[z, 1, 4:99])
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageReadError), open_planes(path, Selection(channel=1, z="max")) as (plane,):
        plane.read(slice(0, 150), slice(0, 133))


class CountingFile(io.BytesIO):
    """A file that counts what is read from it."""

    n_read = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.n_read += len(data)
        return data


def segments_of(image: np.ndarray, **options: Any) -> tuple[CountingFile, Segments, Any]:
    file = CountingFile()
    tifffile.imwrite(file, image, **options)
    file.seek(0)  # tifffile starts where the file stands
    page = tifffile.TiffFile(file).pages[0]
    segments = Segments(file, page, contiguous=False)
    file.n_read = 0
    return file, segments, page


@pytest.mark.parametrize(
    ("options", "most"),
    [
        ({}, 20 * 30 * 2),
        ({"rowsperstrip": 8}, 20 * 30 * 2),
        ({"tile": (32, 32)}, 4 * 32 * 32 * 2),
        ({"tile": (32, 32), "compression": "zlib"}, 4 * 32 * 32 * 2),
    ],
)
def test_only_what_a_region_needs_is_read_from_the_file(options: dict[str, Any], most: int) -> None:
    file, segments, page = segments_of(GREY, **options)
    segments.read(page, 0, 0, slice(50, 70), slice(50, 80))
    assert 0 < file.n_read <= most


def test_windows_that_overlap_decode_each_tile_once() -> None:
    file, segments, page = segments_of(GREY, tile=(32, 32), compression="zlib")
    total = sum(page.databytecounts)
    for top in range(0, 118, 16):
        for left in range(0, 100, 16):
            segments.read(page, 0, 0, slice(top, top + 32), slice(left, left + 33))
    assert file.n_read <= total


@pytest.mark.parametrize("contiguous", [False, True])
def test_of_channels_that_lie_together_only_the_wanted_one_is_held(contiguous: bool) -> None:
    """A view of one channel once kept all of them in memory, twice if the region was as wide as the page."""
    image = RNG.integers(0, 1 << 16, (400, 300, 60), np.uint16).astype(">u2")  # 14 MB
    layout = {"photometric": "minisblack", "planarconfig": "contig", "byteorder": ">"}
    file = CountingFile()
    tifffile.imwrite(file, image, **layout, metadata=None)
    file.seek(0)
    page = tifffile.TiffFile(file).pages[0]
    segments = Segments(file, page, contiguous=contiguous)
    for rows, columns in windows(400, 300):
        tracemalloc.start()
        region = segments.read(page, 0, 0, rows, columns, 7)
        held, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert region.dtype == np.uint16
        assert np.array_equal(region, image[rows, columns, 7])
        assert held < region.nbytes + 100_000
        assert peak < region.nbytes + 3_000_000


def test_a_channel_of_decoded_strips_does_not_keep_the_others() -> None:
    image = RNG.integers(0, 1 << 16, (60, 50, 20), np.uint16)
    layout = {"photometric": "minisblack", "planarconfig": "contig", "compression": "zlib", "rowsperstrip": 7}
    _, segments, page = segments_of(image, **layout)
    region = segments.read(page, 0, 0, slice(3, 59), slice(1, 40), 19)
    assert np.array_equal(region, image[3:59, 1:40, 19])
    assert region.base is None


def test_what_is_kept_of_decoded_tiles_is_bounded() -> None:
    image = np.zeros((9 * 4096, 4096), np.uint8)  # decoded 151 MB
    _, segments, page = segments_of(image, tile=(4096, 4096), compression="zlib")
    for top in range(0, image.shape[0], 4096):
        segments.read(page, 0, 0, slice(top, top + 1), slice(0, 1))
    assert 0 < sum(part.nbytes for part in segments._cache.values()) <= CACHE_BYTES < image.nbytes


def test_one_huge_compressed_strip_is_not_read_in_regions(tmp_path: Path) -> None:
    image = np.zeros((5000, 7000), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", image, compression="zlib", rowsperstrip=5000)
    with open_planes(tmp_path / "a.tif", Selection()) as (plane,):
        assert not plane.reads_blocks
        assert plane.read(slice(9, 12), slice(1, 5)).shape == (3, 4)


def damaged(change: Callable[[Any, bytearray], None], **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, GREY, metadata=None, **options)
    data = bytearray(buffer.getvalue())
    buffer.seek(0)  # tifffile starts where the file stands
    with tifffile.TiffFile(buffer) as tiff:
        change(tiff.pages[0], data)
    return bytes(data)


def set_entry(tag: int, index: int, value: int) -> Callable[[Any, bytearray], None]:
    def change(page: Any, data: bytearray) -> None:
        at = page.tags[tag].valueoffset + index * 4
        data[at : at + 4] = value.to_bytes(4, "little")

    return change


@pytest.mark.parametrize(
    ("tag", "value", "options"),
    [
        (273, 1 << 30, {"rowsperstrip": 10}),  # offsets
        (273, 0, {"rowsperstrip": 10, "compression": "zlib"}),
        (279, 0, {"rowsperstrip": 10, "compression": "zlib"}),  # sizes
        (279, 3, {"rowsperstrip": 10, "compression": "zlib"}),
        (325, 0, {"tile": (32, 32)}),
        (324, 1 << 30, {"tile": (32, 32)}),
    ],
)
def test_pixels_that_are_not_there_are_refused_and_not_filled_up(tag: int, value: int, options: dict[str, Any]) -> None:
    with pytest.raises(ImageReadError):
        read_image(damaged(set_entry(tag, 2, value), **options))


LAYOUTS = {
    "raw strips": {"rowsperstrip": 10},
    "deflate strips": {"rowsperstrip": 10, "compression": "zlib"},
    "raw tiles": {"tile": (32, 48)},
    "zstd tiles": {"tile": (32, 48), "compression": "zstd"},
}


def sparse(missing: Iterable[int], **options: Any) -> bytes:
    """Return a TIFF in which some strips or tiles were never written: offset 0, no bytes."""

    def change(page: Any, data: bytearray) -> None:
        tags = (324, 325) if page.is_tiled else (273, 279)
        for tag in tags:
            width = page.tags[tag].valuebytecount // page.tags[tag].count
            for index in range(len(page.dataoffsets)) if missing is ALL else missing:
                at = page.tags[tag].valueoffset + index * width
                data[at : at + width] = bytes(width)

    return damaged(change, **options)


ALL: Iterable[int] = ()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_strips_and_tiles_that_were_never_written_are_zero(layout: str, photometric: str) -> None:
    data = sparse((0, 3), photometric=photometric, **LAYOUTS[layout])
    expected = GREY.copy()
    if "strips" in layout:
        expected[:10] = expected[30:40] = 0
    else:
        expected[:32, :48] = expected[32:64, :48] = 0
    expected = np.invert(expected) if photometric == "miniswhite" else expected
    with open_planes(data, Selection()) as (plane,):
        for rows, columns in windows(*GREY.shape):
            assert np.array_equal(plane.read(rows, columns), expected[rows, columns])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_page_of_which_nothing_was_written_is_no_black_image(layout: str) -> None:
    with pytest.raises(ImageReadError, match="none of the strips or tiles were ever written"):
        read_image(sparse(ALL, **LAYOUTS[layout]))


def test_pillow_is_not_asked_for_tiles_that_were_never_written(monkeypatch: pytest.MonkeyPatch) -> None:
    data = sparse((0,), **LAYOUTS["zstd tiles"])
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(ImageReadError, match=r"never written, .* pip install \"nuclei-edge\[codecs\]\""):
        read_image(data)


@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("n_samples", [3, 4])
def test_webp_is_read_with_imagecodecs_and_else_refused_in_silence(
    tmp_path: Path, n_samples: int, lossless: bool
) -> None:
    rows, columns = np.indices((150, 133), np.uint8)
    image = np.dstack([rows, columns, rows // 2 + columns // 2, columns | 15])[..., :n_samples]
    arguments = {"lossless": lossless, **({} if lossless else {"level": 90})}
    path = tmp_path / "a.tif"
    options = {"photometric": "rgb", "tile": (64, 64), "compression": "webp", "compressionargs": arguments}
    tifffile.imwrite(path, np.ascontiguousarray(image), **options)
    read = read_image(path).astype(int)
    assert np.abs(read - image)[..., :3].mean() <= (0 if lossless else 8)
    code = (
        "from nuclei_runtime.readers.opening import read_image\n"
        "try: read_image(sys.argv[1])\nexcept Exception as error: print(type(error).__name__, error)"
    )
    printed = without_imagecodecs(code, path).decode()
    assert re.match(r'ImageReadError .* WEBP compression\) cannot be decoded; .* "nuclei-edge\[codecs\]"', printed)


def test_a_strip_that_inflates_beyond_its_pixels_is_refused(tmp_path: Path) -> None:
    import zlib

    bomb = zlib.compress(bytes(60_000_000))

    def change(page: Any, data: bytearray) -> None:
        set_entry(273, 2, len(data))(page, data)
        set_entry(279, 2, len(bomb))(page, data)
        data += bomb

    (tmp_path / "bomb.tif").write_bytes(damaged(change, rowsperstrip=10, compression="zlib"))
    code = (
        "from nuclei_runtime.readers.opening import read_image\n"
        "try: read_image(sys.argv[1])\nexcept Exception as error: print(type(error).__name__, error)"
    )
    assert b"ImageReadError" in without_imagecodecs(code, tmp_path / "bomb.tif")


def test_tiles_far_larger_than_their_page_are_refused_before_pillow_takes_memory_for_them(tmp_path: Path) -> None:
    """Found by damaging files at random: half a gigabyte was allocated for a page of 33 x 29 pixels."""
    width = set_entry(322, 0, 1 << 24)  # TileWidth
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, GREY, metadata=None, tile=(16, 128 * 1024), compression="zstd")  # a width of 32 bits
    data = bytearray(buffer.getvalue())
    buffer.seek(0)
    with tifffile.TiffFile(buffer) as tiff:
        width(tiff.pages[0], data)
    (tmp_path / "wide.tif").write_bytes(data)
    code = (
        "from nuclei_runtime.readers.opening import read_image\n"
        "try: read_image(sys.argv[1])\nexcept Exception as error: print(type(error).__name__, error)"
    )
    assert b"ImageReadError the TIFF's tile claims 536870912 bytes" in without_imagecodecs(code, tmp_path / "wide.tif")
