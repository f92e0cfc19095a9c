"""Properties of the readers, tested on files that Hypothesis generates: round trips, and damage of every kind.

A long run: ``NUCLEI_FUZZ_EXAMPLES=5000 pytest tests/runtime/readers/test_reading_properties.py``.
"""

from __future__ import annotations

import io
import logging
import os
import warnings
from itertools import product
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from nuclei_runtime.errors import ImageError
from nuclei_runtime.readers.opening import open_planes
from nuclei_runtime.readers.plane import Selection

LONG_RUN = int(os.environ.get("NUCLEI_FUZZ_EXAMPLES", "0"))
FEW = settings(
    max_examples=LONG_RUN or 60,
    derandomize=not LONG_RUN,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
DTYPES = ("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64")
RNG = np.random.default_rng(26)
NOISE = RNG.integers(0, 256, 1 << 16, dtype=np.uint8)


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Any:
    """Damaged files make tifffile log and Pillow warn hundreds of lines."""
    logger = logging.getLogger("tifffile")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logger.setLevel(level)


def pixels(shape: tuple[int, ...], dtype: str, start: int) -> np.ndarray:
    """Return noise of any type."""
    n = int(np.prod(shape))
    noise = np.resize(np.roll(NOISE, -start), n * 2).view(np.uint16)[:n].reshape(shape)
    if dtype == "bool":
        return noise % 2 == 1
    return (noise / np.float32(7)).astype(dtype) if dtype[0] == "f" else noise.astype(dtype)


@st.composite
def tiffs(draw: st.DrawFn) -> tuple[bytes, str, np.ndarray]:
    """Return a TIFF, its axes and its contents, in the order T, C, Z, Y, X, S."""
    dtype = draw(st.sampled_from(DTYPES))
    described = draw(st.sampled_from(["ome", "shaped", "none"]))
    lead = draw(st.sampled_from(["", "T", "C", "Z", *(["TC", "CZ", "TZ", "TCZ"] if described != "none" else [])]))
    colour = draw(st.booleans()) if dtype in ("uint8", "uint16") else False
    height, width = draw(st.integers(2, 40)), draw(st.integers(2, 40))  # tifffile lays single pixels out differently
    shape = tuple(draw(st.integers(2, 3)) for _ in lead) + (height, width) + ((3,) if colour else ())
    image = pixels(shape, dtype, draw(st.integers(0, 999)))
    options: dict[str, Any] = {"photometric": "rgb" if colour else "minisblack"}
    stored, axes = image, lead + "YX" + ("S" if colour else "")
    if colour and draw(st.booleans()):
        options["planarconfig"], stored = "separate", np.moveaxis(image, -1, -3)
        axes = lead + "SYX"
    codecs = [None, "zlib"] if dtype == "bool" else [None, "zlib", "lzw", "zstd", "packbits"]
    options["compression"] = draw(st.sampled_from(codecs))
    options["predictor"] = options["compression"] not in (None, "packbits") and dtype != "bool" and draw(st.booleans())
    if draw(st.booleans()):
        options["tile"] = (16 * draw(st.integers(1, 4)), 16 * draw(st.integers(1, 4)))
    else:
        options["rowsperstrip"] = draw(st.integers(1, height))
    options |= {"byteorder": draw(st.sampled_from("<>")), "bigtiff": draw(st.booleans())}
    ome = described == "ome" and dtype != "float16"  # a type that OME does not have
    options["metadata"] = None if described == "none" else {"axes": axes}
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, stored, ome=ome, **options)
    return buffer.getvalue(), lead, image


@FEW
@given(tiffs(), st.data())
def test_what_was_written_is_read_whole_and_by_regions(
    written: tuple[bytes, str, np.ndarray], data: st.DataObject
) -> None:
    content, lead, image = written
    axes = lead + "YX" + ("S" if image.ndim > len(lead) + 2 else "")
    length = dict(zip(axes, image.shape, strict=True))
    channel = data.draw(st.integers(0, length["C"] - 1)) if "C" in lead else None
    selection = Selection(axes=axes, channel=channel, z="each")
    (top, bottom), (left, right) = (
        sorted(data.draw(st.lists(st.integers(0, length[axis]), min_size=2, max_size=2, unique=True))) for axis in "YX"
    )
    image = image if channel is None else image.take(channel, lead.index("C"))
    with open_planes(content, selection) as planes:
        indices = list(product(*(range(length[axis]) for axis in lead if axis != "C")))
        assert len(planes) == len(indices)
        for plane, index in zip(planes, indices, strict=True):
            assert (plane.shape, plane.dtype) == (image[index].shape, image.dtype)
            part = plane.read(slice(top, bottom), slice(left, right))
            assert np.array_equal(part, image[index][top:bottom, left:right])
            whole = plane.read(slice(0, length["Y"]), slice(0, length["X"]))
            assert np.array_equal(whole, image[index])
            assert whole.dtype == image.dtype


def saved(format_name: str, mode: str = "RGB", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels((33, 29, 3), "uint8", 5)).convert(mode).save(buffer, format_name, **options)
    return buffer.getvalue()


def tiff(image: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, image, **{"photometric": "minisblack", **options})
    return buffer.getvalue()


def sparse() -> bytes:
    """Return a TIFF of which one tile was never written."""
    buffer = io.BytesIO(tiff(STACK[0, 0], tile=(16, 16), metadata=None))
    with tifffile.TiffFile(buffer, mode="r+") as file:
        for tag in ("TileOffsets", "TileByteCounts"):
            page = file.pages.first
            page.tags[tag].overwrite((0, *page.tags[tag].value[1:]))
        return buffer.getvalue()


STACK = pixels((3, 2, 33, 29), "uint16", 3)
SOUND = {
    "png": saved("PNG"),
    "png palette": saved("PNG", "P"),
    "jpeg": saved("JPEG"),
    "bmp": saved("BMP"),
    "tiff": tiff(STACK[0, 0], metadata=None),
    "tiff deflate": tiff(STACK[0, 0], compression="zlib", predictor=True, rowsperstrip=5),
    "tiff lzw by pillow": saved("TIFF", compression="tiff_lzw"),
    "tiff jpeg": saved("TIFF", compression="jpeg"),
    "tiff palette": saved("TIFF", "P"),
    "tiff jpeg tiles": tiff(pixels((64, 64, 3), "uint8", 1), photometric="rgb", tile=(32, 32), compression="jpeg"),
    "tiff zstd tiles": tiff(STACK[0, 0], tile=(16, 16), compression="zstd"),
    "pages": tiff(STACK[:, 0], metadata=None),
    "ome": tiff(STACK, ome=True, metadata={"axes": "ZCYX", "Channel": {"Name": ["a", "b"]}, "PhysicalSizeX": 1.0}),
    "ome without TiffData": tiff(STACK[:, 0], ome=True, metadata={"axes": "ZYX"}).replace(b"TiffData", b"TiffNone"),
    "ome tiles": tiff(STACK, ome=True, metadata={"axes": "ZCYX"}, tile=(16, 16), compression="zlib"),
    "imagej": tiff(STACK, imagej=True, metadata={"axes": "ZCYX", "unit": "um"}, resolution=(2, 2)),
    "imagej table": tiff(
        pixels((33, 29), "uint8", 2),
        description="ImageJ=1.54f\nunit=micron\nyunit=nm\n",
        metadata=None,
        photometric="palette",
        colormap=pixels((3, 256), "uint16", 9),
    ),
    "webp tiles": tiff(pixels((64, 64, 3), "uint8", 1), photometric="rgb", tile=(32, 32), compression="webp"),
    "sparse": sparse(),
    "several pictures": saved("MPO", save_all=True, append_images=[Image.new("RGB", (9, 9))]),
    "shaped": tiff(STACK, metadata={"axes": "ZCYX"}),
    "bigtiff": tiff(STACK, bigtiff=True, byteorder=">", metadata=None),
}
REPLACEMENTS = st.one_of(
    st.binary(min_size=1, max_size=4),
    st.sampled_from([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\x80", b"\xff\xff\xff\x7f", b"\1\0", b"\0\1"]),
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Return a file with bytes replaced, removed or inserted, or truncated; small parts are hit more often."""
    data = bytearray(SOUND[draw(st.sampled_from(sorted(SOUND)))])
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.one_of(st.integers(0, len(data) - 1), st.integers(0, min(700, len(data) - 1))))
        new = draw(REPLACEMENTS)
        match draw(st.sampled_from(["replace", "replace", "replace", "remove", "insert", "cut"])):
            case "replace":
                data[at : at + len(new)] = new
            case "remove":
                del data[at : at + len(new)]
            case "insert":
                data[at:at] = new
            case _:
                del data[max(at, 16) :]
        if len(data) < 16:
            break
    return bytes(data)


@FEW
@given(
    damaged(), st.sampled_from([Selection(z="max"), Selection(channel=0, z="each"), Selection(axes="ZYX", z="each")])
)
def test_a_damaged_file_raises_nothing_but_image_errors(data: bytes, selection: Selection) -> None:
    try:
        with open_planes(data, selection) as planes:
            for plane in planes[:20]:
                assert plane.shape[0] * plane.shape[1] * np.dtype(plane.dtype).itemsize <= 1 << 28
                rows, columns = slice(0, plane.shape[0]), slice(0, plane.shape[1])
                image = plane.read(rows, columns)
                assert (image.shape, image.dtype) == (plane.shape, plane.dtype)
    except ImageError as error:
        assert 0 < len(str(error)) < 1000  # noqa: PT017 - that nothing else is raised is the point
