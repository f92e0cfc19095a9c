"""TIFFs that Pillow decodes: the stored values, as with imagecodecs, or a message that names the extra."""

from __future__ import annotations

import io
import re
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from nuclei_runtime.errors import ImageReadError
from nuclei_runtime.readers.opening import open_planes, read_image
from nuclei_runtime.readers.plane import Selection

RNG = np.random.default_rng(29)
GREY = RNG.integers(0, 256, (24, 40)).astype(np.uint8)
MASK = GREY > 100
ASK_FOR_CODECS = re.escape("cannot be decoded; save it as uncompressed grey or RGB, or try with more codecs: pip ")
NATIVE, FOREIGN = ("<", ">") if sys.byteorder == "little" else (">", "<")


@contextmanager
def default_install() -> Iterator[None]:
    """Hide the extra `codecs`. tifffile needs it to write LZW, so files are written before."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "imagecodecs", None)
        yield


def tiff(image: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, image, **{"photometric": "minisblack", "compression": "lzw", "metadata": None, **options})
    return buffer.getvalue()


def pillow(*pages: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    pages[0].save(buffer, "TIFF", save_all=True, append_images=pages[1:], **options)
    return buffer.getvalue()


def without_tag(data: bytes, code: int) -> bytes:
    """Turn a tag of the first page of a little-endian TIFF into an unknown one."""
    (at,) = struct.unpack_from("<I", data, 4)
    (n_tags,) = struct.unpack_from("<H", data, at)
    entry = next(i for i in range(at + 2, at + 2 + 12 * n_tags, 12) if struct.unpack_from("<H", data, i) == (code,))
    return data[:entry] + struct.pack("<H", 65_000) + data[entry + 2 :]


def read_pages(data: bytes, axes: str) -> list[np.ndarray]:
    with open_planes(data, Selection(axes=axes)) as planes:
        return [plane.read(slice(0, plane.shape[0]), slice(0, plane.shape[1])) for plane in planes]


def deep(dtype: str) -> np.ndarray:
    return (GREY.astype(np.int64) * 250 - (0 if dtype.startswith("u") else 9000)).astype(dtype)


DEEP = [
    *((dtype, {"compression": how}) for dtype in ("int16", "uint32", "int32", "float32") for how in ("lzw", "zstd")),
    ("float32", {"compression": "lzma"}),
    ("int16", {"predictor": 2}),
    ("float32", {"predictor": 3}),
]


@pytest.mark.parametrize(("dtype", "options"), DEEP)
def test_deep_grey_is_read_in_the_byte_order_of_the_machine_and_else_refused(dtype: str, options: Any) -> None:
    image = deep(dtype)
    foreign, native = (tiff(image, byteorder=order, **options) for order in (FOREIGN, NATIVE))
    with default_install():
        with pytest.raises(ImageReadError, match=ASK_FOR_CODECS):
            read_image(foreign)
        read = read_image(native)
    assert read.dtype == image.dtype
    assert np.array_equal(read, image)
    assert np.array_equal(read_image(foreign), image)


@pytest.mark.parametrize("predictor", [1, 2])
def test_uint16_is_read_in_either_byte_order(predictor: int) -> None:
    image = deep("uint16")
    for order in "<>":
        data = tiff(image, byteorder=order, predictor=predictor)
        with default_install():
            assert np.array_equal(read_image(data), image)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_page_keeps_its_stored_pixels_whatever_its_orientation(orientation: int) -> None:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for tag in (1, orientation, 9 - orientation):
            extratags = [(274, "H", 1, tag, True)]
            writer.write(GREY, photometric="minisblack", compression="lzw", metadata=None, extratags=extratags)
    with default_install():
        for image in read_pages(buffer.getvalue(), "TYX"):
            assert np.array_equal(image, GREY)
    palette = Image.fromarray(GREY).convert("P")
    for compression in ("raw", "tiff_lzw"):
        data = pillow(palette, palette, palette, compression=compression, tiffinfo={274: orientation})
        for image in read_pages(data, "TYXS"):
            assert np.array_equal(image, np.dstack([GREY] * 3))


def test_an_orientation_in_xmp_turns_nothing_either() -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    data = pillow(Image.fromarray(GREY).convert("P"), tiffinfo={700: xmp})
    assert np.array_equal(read_image(data), np.dstack([GREY] * 3))


@pytest.mark.parametrize("n_colours", [1, 3])
def test_colours_that_are_multiplied_by_alpha_are_read_as_stored_or_refused(n_colours: int) -> None:
    image = np.dstack([GREY // 2] * n_colours + [GREY])
    photometric = "minisblack" if n_colours == 1 else "rgb"
    data = tiff(image, photometric=photometric, planarconfig="contig", extrasamples=["assocalpha"])
    assert np.array_equal(read_image(data), image if n_colours == 3 else image[..., 0])
    with default_install(), pytest.raises(ImageReadError, match=ASK_FOR_CODECS):
        read_image(data)


def test_a_mask_in_which_0_is_white_keeps_its_bits_in_every_compression() -> None:
    """As everywhere in the reader. Pillow alone would invert the mask."""
    files = [tiff(MASK, photometric="miniswhite", compression=how) for how in (None, "zlib", "lzw", "zstd")]
    # Pillow also inverts when it writes: these files contain the bits of ~MASK.
    files += [pillow(Image.fromarray(~MASK), compression=how, tiffinfo={262: 0}) for how in ("raw", "group4")]
    for data in files:
        assert np.array_equal(read_image(data), MASK)
        with default_install():
            assert np.array_equal(read_image(data), MASK)


def test_a_page_that_does_not_say_whether_0_is_black_is_refused() -> None:
    """Pillow would treat 0 as white, but the rest of the reader treats it as black."""
    data = without_tag(tiff(GREY, byteorder="<"), 262)
    assert np.array_equal(read_image(data), GREY)
    with default_install(), pytest.raises(ImageReadError, match=f"no photometric interpretation.*{ASK_FOR_CODECS}"):
        read_image(data)


def test_what_pillow_does_not_know_asks_for_the_extra() -> None:
    data = tiff(GREY.view(np.int8), photometric="miniswhite")
    with default_install(), pytest.raises(ImageReadError, match=ASK_FOR_CODECS):
        read_image(data)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_what_is_too_large_for_pillow_asks_for_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    one, stack = tiff(GREY), tiff(np.stack([GREY, GREY]))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with default_install(), pytest.raises(ImageReadError, match=f"the TIFF's 24 x 40 pixels .*{ASK_FOR_CODECS}"):
        read_image(one)
    with default_install(), pytest.raises(ImageReadError, match=ASK_FOR_CODECS):
        read_pages(stack, "TYX")


def test_with_imagecodecs_no_extra_is_asked_for() -> None:
    image = np.dstack([deep("uint16")] * 4)
    with pytest.raises(ImageReadError, match=r"save it as uncompressed grey or RGB$"):
        read_image(tiff(image, photometric="separated", planarconfig="contig"))


@pytest.mark.parametrize("signature", [b"MM*\0", b"II\0*"])
def test_a_signature_that_is_not_a_tiff_does_not_bypass_the_checks(signature: bytes) -> None:
    """Pillow would open these files, and rotate, crop or invert their contents."""
    with pytest.raises(ImageReadError, match="expected PNG, JPEG, BMP, TIFF"):
        read_image(signature + tiff(GREY, byteorder="<" if signature[:2] == b"II" else ">")[4:])
