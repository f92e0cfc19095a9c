"""The lookup tables of ImageJ and OME say how values are displayed: the values are read as they are stored."""

from __future__ import annotations

import io
import sys
from typing import Any

import numpy as np
import pytest
import tifffile

from nuclei_runtime.errors import ImageReadError
from nuclei_runtime.readers.opening import open_planes, read_image
from nuclei_runtime.readers.plane import Selection

RNG = np.random.default_rng(31)
GREY = RNG.integers(0, 256, (20, 30)).astype(np.uint8)
RAMP, NONE = np.arange(256, dtype=np.uint16) * 257, np.zeros(256, np.uint16)
BLUE = {"photometric": "palette", "colormap": np.stack([NONE, NONE, RAMP])}
GLASBEY = {"photometric": "palette", "colormap": RNG.integers(0, 65_536, (3, 256)).astype(np.uint16)}
INVERTED = {"photometric": "miniswhite"}


def tiff(image: np.ndarray, **options: Any) -> bytes:
    """Return a TIFF with the tags of ImageJ's: TiffEncoder writes one directory, in Motorola's byte order."""
    n = "" if image.ndim == 2 else f"images={len(image)}\nframes={len(image)}\n"
    buffer = io.BytesIO()
    described = {"description": f"ImageJ=1.54f\n{n}min=0.0\nmax=255.0\n", "metadata": None, "byteorder": ">"}
    tifffile.imwrite(buffer, image, **{**described, **options})
    return buffer.getvalue()


def with_one_directory(data: bytes) -> bytes:
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        first = file.pages[0]
        at = first.offset + 2 + 12 * len(first.tags)  # where the next directory is named
    return data[:at] + bytes(4) + data[at + 4 :]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("layout", [{}, {"tile": (16, 16), "compression": "zlib"}], ids=["strips", "tiles"])
def test_an_inverted_table_changes_no_value(dtype: str, layout: dict[str, Any]) -> None:
    image = GREY.astype(dtype) * (1 if dtype == "uint8" else 7)
    read = read_image(tiff(image, **INVERTED, **layout))
    assert read.dtype == image.dtype
    assert np.array_equal(read, image)


@pytest.mark.parametrize("table", [BLUE, GLASBEY], ids=["blue", "glasbey"])
def test_a_table_of_colours_changes_no_value(table: dict[str, Any]) -> None:
    assert np.array_equal(read_image(tiff(GREY, **table)), GREY)
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image><Pixels DimensionOrder="XYZCT" '
        'SizeX="30" SizeY="20" SizeZ="1" SizeC="1" SizeT="1" Type="uint8"/></Image></OME>'
    )
    assert np.array_equal(read_image(tiff(GREY, **table, description=xml)), GREY)
    own = tiff(GREY, **table, description="the palette of another program")
    assert read_image(own).shape == (20, 30, 3)


@pytest.mark.parametrize("table", [GLASBEY, INVERTED], ids=["glasbey", "inverted"])
@pytest.mark.parametrize("lut_of", ["one directory", "a directory for each frame"])
def test_a_time_series_keeps_its_values_too(table: dict[str, Any], lut_of: str) -> None:
    frames = np.stack([GREY, GREY[::-1], GREY[:, ::-1]])
    data = tiff(frames, **table)
    if lut_of == "one directory":  # as ImageJ does it: only the description says that there are three
        data = with_one_directory(data)
    with open_planes(data, Selection()) as planes:
        assert [plane.time for plane in planes] == [0, 1, 2]
        for plane, frame in zip(planes, frames, strict=True):
            assert np.array_equal(plane.read(slice(0, 20), slice(0, 30)), frame)
            assert np.array_equal(plane.read(slice(3, 9), slice(5, 30)), frame[3:9, 5:30])


@pytest.mark.parametrize("table", [GLASBEY, INVERTED], ids=["glasbey", "inverted"])
def test_what_only_pillow_decodes_is_refused_as_it_would_apply_the_table(
    table: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tiff(GREY, **table, compression="lzw")
    assert np.array_equal(read_image(data), GREY)
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(ImageReadError, match="save it as uncompressed grey or RGB"):
        read_image(data)


@pytest.mark.parametrize("n_frames", [1, 3])
def test_a_truncated_file_is_called_truncated(n_frames: int) -> None:
    """Without its last pixels, it also seems to contradict its metadata, but no other export would help."""
    frames = np.stack([GREY] * n_frames) if n_frames > 1 else GREY
    data = with_one_directory(tiff(frames, photometric="minisblack"))
    with open_planes(data, Selection()) as planes:
        assert len(planes) == n_frames
    cut = data[: data.rindex(GREY.tobytes()) + 300]
    with (
        pytest.raises(ImageReadError, match=rf"truncated: .* but it ends at byte {len(cut)}; copy it again"),
        open_planes(cut, Selection()),
    ):
        pass
