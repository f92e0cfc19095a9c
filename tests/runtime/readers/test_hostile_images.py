"""Small files that claim to be huge: each is refused, and the refusal takes little memory."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

MOST_MEMORY_MB = 150
"""Over what was taken before, for any of these files; they claim gigabytes."""
SIDE = 60_000
ZEROS = zlib.compress(bytes(50_000_000), 1)


def png(width: int, height: int, depth: int, colour: int, data: bytes = b"") -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64)).save(buffer, "JPEG")
    data = bytearray(buffer.getvalue())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", SIDE, SIDE)
    return bytes(data)


def bmp() -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (64, 64)).save(buffer, "BMP")
    data = bytearray(buffer.getvalue())
    data[18:26] = struct.pack("<ii", SIDE, SIDE)
    return bytes(data)


def tiff(image: np.ndarray, changes: dict[int, int], **options: Any) -> bytes:
    """Return a TIFF in which the codes of some tags are changed."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, image, **{"metadata": None, "photometric": "minisblack", **options})
    data = bytearray(buffer.getvalue())
    buffer.seek(0)
    with tifffile.TiffFile(buffer) as file:
        for tag, value in changes.items():
            found = file.pages[0].tags[tag]  # type: ignore[union-attr]
            data[found.valueoffset : found.valueoffset + found.valuebytecount] = struct.pack(
                "<H" if found.dtype == 3 else "<I", value
            )
    return bytes(data)


GREY = np.zeros((64, 64), np.uint8)
HUGE = {256: SIDE, 257: SIDE}
OME = '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">{}</OME>'
LAUGHS = "".join(f'<!ENTITY a{i + 1} "{f"&a{i};" * 10}">' for i in range(9))

FILES: dict[str, Callable[[], bytes]] = {
    "png": lambda: png(SIDE, SIDE, 8, 0, ZEROS),
    "png within pillow's bound": lambda: png(13_000, 13_000, 8, 6, b""),
    "deep colour png": lambda: png(SIDE, SIDE, 16, 2, ZEROS),
    "deep colour png that inflates beyond its rows": lambda: png(9, 9, 16, 2, ZEROS),
    "jpeg": jpeg,
    "bmp": bmp,
    "tiff": lambda: tiff(GREY, HUGE),
    "tiff deflate": lambda: tiff(GREY, HUGE, compression="zlib"),
    "tiff lzw": lambda: tiff(GREY, HUGE, compression="lzw"),
    "tiff zstd tiles": lambda: tiff(GREY, HUGE, compression="zstd", tile=(16, 16)),
    "tiff jpeg tiles": lambda: tiff(GREY, HUGE, compression="jpeg", tile=(64, 64)),
    "tiff with huge tiles": lambda: tiff(
        GREY, {322: SIDE // 16 * 16, 323: SIDE // 16 * 16}, compression="zlib", tile=(64, 64)
    ),
    "tiff with a huge jpeg in a tile": lambda: tiff(GREY, {}, compression="jpeg", tile=(64, 64)).replace(
        struct.pack(">HHB", 64, 64, 1), struct.pack(">HHB", SIDE, SIDE, 1)
    ),
    "tiff with a huge webp in a tile": lambda: tiff(
        np.zeros((64, 64, 3), np.uint8), {}, photometric="rgb", compression="webp", tile=(64, 64)
    ).replace(b"\x2f\x3f\xc0\x0f", b"\x2f\xff\xff\xff"),  # the signature of VP8L, then 14 bits each for 64 - 1
    "tiff of 60,000 samples": lambda: tiff(GREY, {277: SIDE}, compression="zlib"),
    "tiff that says 100,000 planes": lambda: tiff(
        GREY, {}, metadata={"axes": "TYX", "shape": [100_000, 64, 64]}, description='{"shape": [100000000, 64, 64]}'
    ),
    "imagej that says 2 billion planes": lambda: tiff(
        GREY, {}, description="ImageJ=1.11a\nimages=2000000000\nslices=2000000000\nhyperstack=true\n"
    ),
    "ome that says 10 to the 12 planes": lambda: tiff(
        GREY,
        {},
        description=OME.format(
            '<Image><Pixels DimensionOrder="XYZCT" SizeX="64" SizeY="64" SizeZ="1000000" SizeC="1" SizeT="1000000">'
            '<TiffData PlaneCount="1000000000000"/></Pixels></Image>'
        ),
    ),
    "ome that laughs a billion times": lambda: tiff(
        GREY, {}, description=f'<!DOCTYPE OME [<!ENTITY a0 "ha">{LAUGHS}]>' + OME.format("&a9;")
    ),
    "ome of 17 MB": lambda: tiff(GREY, {}, description=OME.format("<Image/>" * 2_100_000)),
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str]]:
    """The outcome of each file: the kind of error, the message and the memory used, by case."""
    folder = tmp_path_factory.mktemp("hostile")
    for i, make in enumerate(FILES.values()):
        (folder / f"{i:02d}.dat").write_bytes(make())
    sizes = sorted(path.stat().st_size for path in folder.iterdir())
    assert sizes[-2] < 250_000, "but the longest text, all are small"
    code = (
        "import json, sys\nfrom pathlib import Path\nimport numpy, tifffile, PIL.Image, png, imagecodecs\n"
        "from nuclei_runtime.readers.opening import open_planes; from nuclei_runtime.readers.plane import Selection\n"
        "import xml.etree.ElementTree, logging\nlogging.disable()\n"
        "def peak():\n"
        "    try: import resource\n"
        "    except ImportError: return 0.0\n"  # Windows: the refusals are tested, their memory is not
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
        "found = []\n"
        "for path in sorted(Path(sys.argv[1]).iterdir()):\n"
        "    before = peak()\n"
        "    try:\n"
        "        with open_planes(path, Selection(z='max')) as planes:\n"
        "            for p in planes: p.read(slice(0, p.shape[0]), slice(0, p.shape[1]))\n"
        "        found.append(['read', ''])\n"
        "    except Exception as error: found.append([type(error).__name__, str(error)])\n"
        "    found[-1].append(peak() - before)\n"
        "print(json.dumps(found))\n"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code, str(folder)], capture_output=True, check=True)
    return dict(zip(FILES, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("case", FILES)
def test_a_small_file_that_claims_to_be_huge_is_refused_in_little_memory(
    case: str, outcomes: dict[str, tuple[str, str, float]]
) -> None:
    kind, message, megabytes = outcomes[case]
    assert kind in ("ImageReadError", "ImageShapeError"), message
    assert len(message) < 400
    assert megabytes < MOST_MEMORY_MB
