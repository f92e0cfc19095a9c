"""Directories of TIFFs that form loops, never end, lie outside the file or have absurd tags."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable

import numpy as np
import pytest
import tifffile

from nuclei_runtime.errors import ImageReadError
from nuclei_runtime.readers.opening import read_image
from nuclei_runtime.readers.tiff.directories import MAX_PAGES, walk_directories

WIDTH, LENGTH, BITS, OFFSETS, COUNTS, SUB_IFDS, DESCRIPTION = 256, 257, 258, 273, 279, 330, 270
Entry = tuple[int, int, int, int]
"""Tag, type, count, value."""
IMAGE: list[Entry] = [
    *((WIDTH, 4, 1, 4), (LENGTH, 4, 1, 4), (BITS, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)),
    *((OFFSETS, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, 4), (COUNTS, 4, 1, 16)),
]


def directory(following: int, *more: Entry) -> bytes:
    entries = sorted([entry for entry in IMAGE if entry[0] not in {code for code, *_ in more}] + list(more))
    packed = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return struct.pack("<H", len(entries)) + packed + struct.pack("<I", following)


def tiff(*directories: bytes) -> bytes:
    return b"II*\0" + struct.pack("<I", 24) + bytes(range(16)) + b"".join(directories)


SIZE = len(directory(0))


def chain(n: int) -> bytes:
    return tiff(*(directory(24 + SIZE * (i + 1) if i < n - 1 else 0) for i in range(n)))


def test_the_hand_made_file_is_sound() -> None:
    assert read_image(tiff(directory(0))).tolist() == np.arange(16).reshape(4, 4).tolist()
    assert len(walk_directories(io.BytesIO(chain(5)))) == 5


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "to itself": (lambda: tiff(directory(24)), "form a loop, back to byte 24"),
    "back to the first": (lambda: tiff(directory(24 + SIZE), directory(24)), "form a loop"),
    "late loop": (
        lambda: tiff(*(directory(24 + SIZE * (i + 1)) for i in range(300)), directory(24 + SIZE * 200)),
        "loop",
    ),
    "sub-IFD to itself": (
        lambda: tiff(directory(0, (SUB_IFDS, 4, 1, 24 + SIZE + 12)), directory(0, (SUB_IFDS, 4, 1, 24 + SIZE + 12))),
        "form a loop",
    ),
    "sub-IFD to its page": (lambda: tiff(directory(0, (SUB_IFDS, 4, 1, 24))), "form a loop"),
    "100,000 pages": (lambda: chain(100_000), f"more than {MAX_PAGES} pages; split it"),
    "next directory outside": (lambda: tiff(directory(5000)), "no directory at byte 5000"),
    "first directory outside": (lambda: b"II*\0" + struct.pack("<I", 900) + bytes(16), "no directory at byte 900"),
    "no directory": (lambda: b"II*\0" + bytes(20), "holds no image"),
    "60,000 tags": (lambda: b"II*\0" + struct.pack("<IH", 8, 60_000) + bytes(12 * 60_000 + 4), "60000 tags"),
    "huge description": (lambda: tiff(directory(0, (DESCRIPTION, 2, 1 << 31, 24))), "tag 270 claims 2147483648"),
    "huge offsets": (lambda: tiff(directory(0, (OFFSETS, 4, 1 << 30, 24))), "tag 273 claims"),
    "many pages of the same many offsets": (
        lambda: tiff(*(directory(24 + SIZE * (i + 1), (OFFSETS, 4, 1 << 21, 24)) for i in range(20)), bytes(1 << 23)),
        "all tags so far",
    ),
    "metamorph": (lambda: tiff(directory(0, (33629, 5, 1, 24))), "a MetaMorph stack whose metadata cannot be read"),
    "zeiss": (lambda: tiff(directory(0, (34412, 1, 4, 0))), "a Zeiss LSM file whose metadata cannot be read"),
    "sub-IFDs beyond the end": (lambda: tiff(directory(0, (SUB_IFDS, 4, 9, 1 << 20))), "beyond the end of the file"),
    "offset beyond the end": (lambda: tiff(directory(0, (OFFSETS, 4, 1, 1 << 20))), "truncated"),
    "no height": (lambda: tiff(directory(0, (LENGTH, 4, 1, 0))), "no pixels"),
    "rows without end": (lambda: tiff(directory(0, (LENGTH, 4, 1, 1 << 31))), "cannot hold"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_directories_that_lead_astray_are_refused(case: str) -> None:
    make, reason = REFUSED[case]
    with pytest.raises(Exception, match=reason) as caught:
        read_image(make())
    assert type(caught.value).__name__ in ("ImageReadError", "ImageShapeError")


def test_as_many_pages_as_are_allowed_are_walked() -> None:
    assert len(walk_directories(io.BytesIO(chain(MAX_PAGES)))) == MAX_PAGES


def pyramid(*, sub_ifds: bool) -> bytes:
    image = np.arange(64 * 48, dtype=np.uint16).reshape(64, 48)
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(image, tile=(16, 16), metadata=None, subifds=1 if sub_ifds else None)
        writer.write(image[::2, ::2], tile=(16, 16), metadata=None, subfiletype=1)
    return buffer.getvalue()


@pytest.mark.parametrize("sub_ifds", [True, False])
def test_of_a_pyramid_the_finest_level_is_read(sub_ifds: bool) -> None:
    assert read_image(pyramid(sub_ifds=sub_ifds)).shape == (64, 48)


def test_pages_that_differ_are_not_a_stack() -> None:
    deeper = tiff(directory(24 + SIZE), directory(0, (BITS, 3, 1, 16), (COUNTS, 4, 1, 32)))
    with pytest.raises(ValueError, match="holds 2 images; save the one to use"):
        read_image(deeper)
    assert len(walk_directories(io.BytesIO(deeper))) == 2


def test_a_big_tiff_in_either_byte_order_is_walked() -> None:
    for order in "<>":
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, np.zeros((3, 4, 5), np.uint8), bigtiff=True, byteorder=order, photometric="minisblack")
        assert len(walk_directories(buffer)) == 3


def test_a_directory_that_is_cut_is_refused() -> None:
    whole = tiff(directory(0))
    for length in range(8, len(whole)):
        with pytest.raises(ImageReadError):
            walk_directories(io.BytesIO(whole[:length]))
