"""Files as microscopes, cameras and other programs write them, and files that are broken."""

from __future__ import annotations

import io
import logging
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import png
import pytest
import tifffile
from PIL import Image, ImageFile

from nuclei_runtime.arrays import check_image
from nuclei_runtime.errors import ImageError, ImageReadError, ImageShapeError, ImageValueError
from nuclei_runtime.readers.opening import read_image

RNG = np.random.default_rng(20)
GREY = (RNG.integers(0, 60, (24, 20)) + 9 * np.arange(20)).astype(np.uint8)
RGB = np.dstack([GREY, GREY[::-1], GREY[:, ::-1]])
ALPHA = np.full_like(GREY, 200)
RGBA = np.dstack([RGB, ALPHA])
DEEP = GREY.astype(np.uint16) * 250 + 7
DEEP_RGB = RGB.astype(np.uint16) * 250 + 7
PALETTE = Image.fromarray(RGB).quantize(16)


# Pillow warns about damaged tags; what matters is how the reader handles them.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")


@pytest.fixture(autouse=True)
def quiet_tifffile() -> Iterator[None]:
    """Damaged files make tifffile log hundreds of lines; the level of its logger is restored afterwards."""
    logger = logging.getLogger("tifffile")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(level)


def pillow(image: Image.Image | np.ndarray, format_name: str = "PNG", **options: Any) -> bytes:
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    buffer = io.BytesIO()
    picture.save(buffer, format=format_name, **options)
    return buffer.getvalue()


def tiff(image: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, image, **options)
    return buffer.getvalue()


def deep_png(image: np.ndarray, **options: Any) -> bytes:
    height, width, planes = image.shape
    buffer = io.BytesIO()
    writer = png.Writer(width, height, bitdepth=16, greyscale=planes < 3, alpha=planes in (2, 4), **options)
    writer.write(buffer, image.reshape(height, -1))
    return buffer.getvalue()


EXACT: dict[str, tuple[bytes, np.ndarray]] = {
    "png grey": (pillow(GREY), GREY),
    "png grey 1 bit": (pillow(GREY > 100), GREY > 100),
    "png grey 16 bit": (pillow(DEEP), DEEP),
    "png grey with alpha": (pillow(Image.merge("LA", [Image.fromarray(p) for p in (GREY, ALPHA)])), GREY),
    "png rgb": (pillow(RGB), RGB),
    "png rgba": (pillow(RGBA), RGBA),
    "png palette": (pillow(PALETTE), np.asarray(PALETTE.convert("RGB"))),
    "png palette with a transparent colour": (pillow(PALETTE, transparency=3), np.asarray(PALETTE.convert("RGB"))),
    "png rgb 16 bit": (deep_png(DEEP_RGB), DEEP_RGB),
    "png rgb 16 bit interlaced": (deep_png(DEEP_RGB, interlace=True), DEEP_RGB),
    "png rgba 16 bit": (deep_png(np.dstack([DEEP_RGB, DEEP])), np.dstack([DEEP_RGB, DEEP])),
    "png grey with alpha 16 bit": (deep_png(np.dstack([DEEP, DEEP[::-1]])), DEEP),
    "bmp grey": (pillow(GREY, "BMP"), GREY),
    "bmp rgb": (pillow(RGB, "BMP"), RGB),
    "tiff uint8": (tiff(GREY), GREY),
    "tiff uint16": (tiff(DEEP), DEEP),
    "tiff uint16 big-endian": (tiff(DEEP, byteorder=">"), DEEP),
    "tiff uint32": (tiff(DEEP.astype(np.uint32) * 65537), DEEP.astype(np.uint32) * 65537),
    "tiff int8": (tiff(GREY.view(np.int8)), GREY.view(np.int8)),
    "tiff int16": (tiff(DEEP.astype(np.int16) - 9000), DEEP.astype(np.int16) - 9000),
    "tiff int32": (tiff(DEEP.astype(np.int32) - 9000), DEEP.astype(np.int32) - 9000),
    "tiff float16": (tiff(GREY.astype(np.float16)), GREY.astype(np.float16)),
    "tiff float32": (tiff(GREY.astype(np.float32) / 7), GREY.astype(np.float32) / 7),
    "tiff float64": (tiff(GREY / 7), GREY / 7),
    "tiff bool": (tiff(GREY > 100), GREY > 100),
    "tiff rgb": (tiff(RGB, photometric="rgb"), RGB),
    "tiff rgb planar": (tiff(np.moveaxis(RGB, -1, 0), photometric="rgb", planarconfig="separate"), RGB),
    "tiff rgb 16 bit": (tiff(DEEP_RGB, photometric="rgb"), DEEP_RGB),
    "tiff rgba": (tiff(RGBA, photometric="rgb", extrasamples=["unassalpha"]), RGBA),
    "tiff grey with alpha": (
        tiff(np.dstack([GREY, ALPHA]), photometric="minisblack", planarconfig="contig", extrasamples=["unassalpha"]),
        GREY,
    ),
    "tiff tiled": (tiff(DEEP, tile=(16, 16)), DEEP),
    "tiff deflate": (tiff(DEEP, compression="zlib", predictor=True, rowsperstrip=5), DEEP),
    "tiff ome": (tiff(DEEP, ome=True), DEEP),
    "tiff ome rgb": (tiff(RGB, ome=True, photometric="rgb"), RGB),
    "tiff imagej": (tiff(DEEP, imagej=True), DEEP),
    "tiff bigtiff": (tiff(DEEP, bigtiff=True), DEEP),
    "tiff one row": (tiff(GREY[:1]), GREY[:1]),
    "tiff one column": (tiff(GREY[:, :1]), GREY[:, :1]),
    "tiff one pixel": (tiff(GREY[:1, :1]), GREY[:1, :1]),
    "tiff one rgb pixel": (tiff(RGB[:1, :1], photometric="rgb"), RGB[:1, :1]),
    "tiff lzw": (pillow(GREY, "TIFF", compression="tiff_lzw"), GREY),
    "tiff lzw 16 bit": (pillow(DEEP, "TIFF", compression="tiff_lzw"), DEEP),
    "tiff lzw float": (pillow(GREY / np.float32(7), "TIFF", compression="tiff_lzw"), GREY / np.float32(7)),
    "tiff lzw rgb": (pillow(RGB, "TIFF", compression="tiff_lzw"), RGB),
    "tiff packbits": (pillow(RGB, "TIFF", compression="packbits"), RGB),
    "tiff zstd": (pillow(DEEP, "TIFF", compression="zstd"), DEEP),
    "tiff group 4": (pillow(Image.fromarray(GREY > 100), "TIFF", compression="group4"), GREY > 100),
    "tiff palette": (pillow(PALETTE, "TIFF"), np.asarray(PALETTE.convert("RGB"))),
    "tiff palette lzw": (pillow(PALETTE, "TIFF", compression="tiff_lzw"), np.asarray(PALETTE.convert("RGB"))),
    "tiff cmyk": (pillow(Image.fromarray(RGB).convert("CMYK"), "TIFF"), RGB),
    "tiff white is zero": (tiff(255 - GREY, photometric="miniswhite"), GREY),
    "tiff white is zero 16 bit": (tiff(65535 - DEEP, photometric="miniswhite"), DEEP),
    "tiff white is zero float": (tiff(-(GREY / np.float32(7)), photometric="miniswhite"), GREY / np.float32(7)),
}


@pytest.mark.parametrize("case", EXACT)
def test_a_file_gives_the_values_that_it_stores(case: str, tmp_path: Path) -> None:
    data, expected = EXACT[case]
    path = tmp_path / "image with a name.dat"  # the content decides, not the suffix
    path.write_bytes(data)
    for image in (read_image(data), read_image(path), read_image(str(path))):
        assert image.dtype == expected.dtype.newbyteorder(image.dtype.byteorder)
        assert image.shape == expected.shape
        assert np.array_equal(image, expected)


LOSSY = {
    "jpeg grey": (pillow(GREY, "JPEG", quality=95), GREY, 12),
    "jpeg rgb": (pillow(RGB, "JPEG", quality=95, subsampling=0), RGB, 25),
    "jpeg progressive": (pillow(RGB, "JPEG", quality=95, subsampling=0, progressive=True), RGB, 25),
    "jpeg cmyk": (pillow(Image.fromarray(RGB).convert("CMYK"), "JPEG", quality=95), RGB, 40),
    "tiff jpeg": (pillow(RGB, "TIFF", compression="jpeg", quality=95), RGB, 90),
    "tiff lab": (pillow(Image.fromarray(RGB).convert("LAB"), "TIFF"), RGB, 30),
    "tiff ycbcr": (pillow(Image.fromarray(RGB).convert("YCbCr"), "TIFF"), RGB, 4),
}


@pytest.mark.parametrize("case", LOSSY)
def test_a_lossy_file_gives_nearly_the_values(case: str) -> None:
    data, expected, allowed = LOSSY[case]
    image = read_image(data)
    assert image.dtype == np.uint8
    assert image.shape == expected.shape
    difference = np.abs(image.astype(int) - expected)
    assert np.percentile(difference, 95) <= allowed
    assert difference.mean() < allowed / 2


def lzw_uint32() -> bytes:
    """An LZW TIFF of 32-bit values above 2**31, which Pillow reads as negative."""
    data = bytearray(pillow(Image.fromarray(np.full((8, 8), -5, np.int32)), "TIFF", compression="tiff_lzw"))
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as file:
        sample_format = file.pages[0].tags[339].valueoffset  # type: ignore[union-attr]
    data[sample_format : sample_format + 2] = struct.pack("<H", 1)  # unsigned
    return bytes(data)


def test_large_unsigned_values_stay_positive_in_every_compression() -> None:
    image = read_image(lzw_uint32())
    assert image.dtype == np.uint32
    assert (image == 2**32 - 5).all()


def test_the_orientation_is_ignored_so_that_labels_lie_on_the_stored_pixels() -> None:
    turned = Image.Exif()
    turned[274] = 6  # displayed rotated by 90 degrees
    assert read_image(pillow(GREY, "PNG", exif=turned)).shape == GREY.shape
    assert read_image(pillow(GREY, "JPEG", exif=turned)).shape == GREY.shape
    assert np.array_equal(read_image(tiff(GREY, extratags=[(274, "H", 1, 6, True)])), GREY)
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "jpeg"):
        data = pillow(GREY, "TIFF", compression=compression, tiffinfo={274: 6})
        assert read_image(data).shape == GREY.shape
    assert np.array_equal(read_image(pillow(GREY, "TIFF", compression="tiff_lzw", tiffinfo={274: 6})), GREY)


STACK = np.stack([GREY, GREY, GREY, GREY, GREY])


def test_of_several_pictures_of_a_camera_the_first_is_read() -> None:
    others = [Image.fromarray(RGB[:12, :10]), Image.fromarray(GREY[::-1])]
    several = pillow(RGB, "MPO", save_all=True, append_images=others)
    first = pillow(RGB, "JPEG")
    assert several.startswith(b"\xff\xd8\xff")
    assert np.array_equal(read_image(several), read_image(first))
    assert np.array_equal(
        read_image(several[: several.index(b"\xff\xd9") + 2]), read_image(first)
    )  # the others are cut off


REFUSED: dict[str, tuple[Callable[[], bytes], type[ImageError], str]] = {
    "no bytes": (lambda: b"", ImageReadError, r"empty \(0 bytes\)"),
    "text": (
        lambda: b"image,count\nfield_1,12\n",
        ImageReadError,
        "expected PNG, JPEG, BMP, TIFF",
    ),
    "gif": (lambda: pillow(GREY, "GIF"), ImageReadError, "GIF files are not read; save the image as PNG or TIFF"),
    "postscript": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", ImageReadError, "expected PNG"),
    "only a png signature": (lambda: b"\x89PNG\r\n\x1a\n", ImageReadError, "."),
    "only a tiff signature": (lambda: b"II*\0", ImageReadError, "truncated"),
    "stack": (lambda: tiff(STACK), ImageShapeError, r"stack of shape \(5, 24, 20\)"),
    "imagej stack": (lambda: tiff(STACK, imagej=True), ImageShapeError, "stack"),
    "ome channels": (lambda: tiff(STACK[:2], ome=True, metadata={"axes": "CYX"}), ImageShapeError, "axes CYX"),
    "two pages": (lambda: pages(GREY, GREY), ImageShapeError, "stack"),
    "two pages of two sizes": (lambda: pages(GREY, GREY[:9]), ImageShapeError, "holds 2 images; save the one to use"),
    "two channels": (
        lambda: tiff(np.dstack([GREY, GREY]), photometric="minisblack", planarconfig="contig"),
        ImageShapeError,
        r"\(24, 20, 2\)",
    ),
    "four channels that are no rgba": (
        lambda: tiff(RGBA, photometric="minisblack", planarconfig="contig"),
        ImageShapeError,
        "4 channels",
    ),
    "moving png": (
        lambda: pillow(GREY, save_all=True, append_images=[Image.fromarray(GREY[::-1])]),
        ImageShapeError,
        "2 images",
    ),
    "nan": (lambda: tiff(with_value(np.nan)), ImageValueError, "1 of 480 values are NaN or infinite"),
    "infinite": (lambda: tiff(with_value(-np.inf)), ImageValueError, "1 of 480 values"),
    "complex": (lambda: tiff(GREY.astype(np.complex64)), ImageValueError, "complex64"),
    "16-bit cmyk": (
        lambda: tiff(np.dstack([DEEP_RGB, DEEP]), photometric="separated", planarconfig="contig"),
        ImageReadError,
        "save it as uncompressed grey or RGB",
    ),
    "more pixels than its bytes can hold": (lambda: claims_much(), ImageReadError, "cannot hold"),
}


def with_value(value: float) -> np.ndarray:
    image = GREY.astype(np.float32)
    image[3, 4] = value
    return image


def pages(*images: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for image in images:
            writer.write(image, metadata=None)
    return buffer.getvalue()


def claims_much() -> bytes:
    """A compressed TIFF with a damaged width."""
    data = bytearray(tiff(GREY, compression="zlib", metadata=None))
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as file:
        width = file.pages[0].tags[256].valueoffset  # type: ignore[union-attr]
    data[width : width + 4] = struct.pack("<I", 1 << 30)
    return bytes(data)


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_that_is_not_one_image_is_refused_with_the_reason(case: str) -> None:
    make, kind, reason = REFUSED[case]
    with pytest.raises(kind, match=reason):
        read_image(make())


def test_a_path_without_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageReadError, match="cannot be opened"):
        read_image(tmp_path / "absent.png")
    with pytest.raises(ImageReadError, match="cannot be opened"):
        read_image(tmp_path)
    with pytest.raises(ImageReadError, match="cannot be opened"):
        read_image("null\0character.png")


@pytest.mark.parametrize("case", [*EXACT, *LOSSY])
def test_a_truncated_file_is_refused_or_read_whole(case: str) -> None:
    data = (EXACT.get(case) or LOSSY[case])[0]
    whole = read_image(data)
    lengths = np.unique(np.append(np.linspace(1, len(data) - 1, 20).astype(int), len(data) - np.arange(1, 9)))
    for length in lengths:
        try:
            image = read_image(data[:length])
        except ImageError:
            continue
        # The remainder was not part of the picture: a trailing chunk, for example.
        assert image.dtype == whole.dtype, f"{length} of {len(data)} bytes"
        assert np.array_equal(image, whole), f"{length} of {len(data)} bytes"


@pytest.mark.parametrize("case", [case for case in EXACT if "one" not in case])
def test_a_half_file_is_refused(case: str) -> None:
    data = EXACT[case][0]
    with pytest.raises(ImageError):
        read_image(data[: len(data) // 2])


def test_pillow_is_never_told_to_fill_up_truncated_files() -> None:
    read_image(EXACT["png rgb"][0])
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


@pytest.mark.parametrize("case", [*EXACT, *LOSSY])
def test_a_damaged_file_raises_nothing_but_image_errors(case: str) -> None:
    data = (EXACT.get(case) or LOSSY[case])[0]
    rng = np.random.default_rng(len(data))
    for _ in range(25):
        damaged = bytearray(data)
        for position in rng.integers(0, len(data), rng.integers(1, 5)):
            damaged[position] = int(rng.integers(256))
        try:
            check_image(read_image(bytes(damaged)))
        except ImageError as error:
            assert str(error)  # noqa: PT017 - that nothing else is raised is the point


@pytest.mark.parametrize("case", [case for case in EXACT if case.startswith("png")])
def test_a_png_with_one_wrong_bit_is_refused(case: str) -> None:
    data = EXACT[case][0]
    start = data.index(b"IDAT")
    for position in range(start, data.index(b"IEND") - 4, 7):
        damaged = bytearray(data)
        damaged[position] ^= 4
        with pytest.raises(ImageError):
            read_image(bytes(damaged))


@pytest.mark.parametrize("shape", [(5,), (0, 5), (5, 0), (5, 5, 0), (5, 5, 2), (5, 5, 5), (1, 5, 5, 3)])
def test_an_array_that_is_not_one_image_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageShapeError, match="found an array of shape"):
        check_image(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("dtype", ["complex128", "U3", "datetime64[s]", "object", np.longdouble])
def test_an_array_without_intensities_is_refused(dtype: Any) -> None:
    if np.dtype(dtype) == np.float64:
        pytest.skip("a long double is a double on this platform")
    with pytest.raises(ImageValueError, match="expected bool, integers or floats"):
        check_image(np.zeros((4, 4), dtype))


@pytest.mark.parametrize("source", [None, 3, np.zeros((4, 5))])
def test_what_is_neither_a_path_nor_bytes_is_refused(source: Any) -> None:
    with pytest.raises(ImageReadError, match=f"found {type(source).__name__}, expected the path of an image or the"):
        read_image(source)
