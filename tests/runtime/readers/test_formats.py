"""Adding a format takes one module and one row. The existing rows name existing modules and are independent."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from nuclei_runtime.errors import ImageReadError
from nuclei_runtime.readers import formats
from nuclei_runtime.readers.formats import FORMATS, Format, format_in_folder, format_of_file, format_of_folder
from nuclei_runtime.readers.opening import open_planes, read_image
from nuclei_runtime.readers.plane import Selection
from nuclei_runtime.runs.config import RunConfig
from nuclei_runtime.runs.inputs import find_images
from nuclei_runtime.runs.run import FolderRun
from nuclei_runtime.segmentation.options import SegmenterOptions

TOY = '''
"""Toy images: TOY, then time points, height and width as bytes, then the pixels."""

import numpy as np

from nuclei_runtime.readers.axes import Stack
from nuclei_runtime.readers.bounds import check_claim


def open_toy(source, resources):
    file = source if hasattr(source, "read") else resources.enter_context((source / "pixels").open("rb"))
    size = file.seek(0, 2)
    file.seek(3)
    shape = tuple(file.read(3))
    check_claim("toy", int(np.prod(shape)), size)
    images = np.frombuffer(file.read(), np.uint8).reshape(shape)
    return Stack("TYX", shape, np.uint8, (), (0.5, 0.25), lambda index, y, x: images[index][y, x], True)
'''
ROWS = (
    Format("toy", (".toy",), "toy_format:open_toy", first_bytes=(b"TOY",)),
    Format("toy folder", (".toys",), "toy_format:open_toy", marker_files=("toy.txt",)),
)
IMAGES = np.random.default_rng(4).integers(0, 255, (2, 30, 40)).astype(np.uint8)
CONTENT = b"TOY" + bytes(IMAGES.shape) + IMAGES.tobytes()


@pytest.fixture
def _toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Add one module and its rows: for a file and for a folder that contains an image."""
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "toy_format.py").write_text(TOY, encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(formats, "FORMATS", (*FORMATS, *ROWS))
    yield
    sys.modules.pop("toy_format", None)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    (data / "deep" / "c.TOYS").mkdir(parents=True)
    (data / "named otherwise").mkdir()
    (data / "a.toy").write_bytes(CONTENT)
    (data / "deep" / "c.TOYS" / "pixels").write_bytes(CONTENT)
    (data / "named otherwise" / "toy.txt").touch()
    (data / "named otherwise" / "pixels").write_bytes(CONTENT)
    (data / "a.txt").write_text("no image")
    return data


@pytest.mark.usefixtures("_toy")
def test_a_format_is_one_module_and_one_row(data: Path, tmp_path: Path) -> None:
    found = find_images([data], out=tmp_path / "out")
    assert [file.name for file in found.files] == ["a.toy", "deep/c.TOYS", "named otherwise"]
    assert found.n_skipped == 1
    for source in (*(file.path for file in found.files), CONTENT):
        with open_planes(source, Selection()) as planes:
            assert [plane.suffix for plane in planes] == ["_t000", "_t001"]
            for plane, image in zip(planes, IMAGES, strict=True):
                assert (plane.shape, plane.pixel_size_um, plane.reads_blocks) == ((30, 40), (0.5, 0.25), True)
                assert np.array_equal(plane.read(slice(3, 9), slice(5, 40)), image[3:9, 5:40])
    single = CONTENT[:3] + bytes((1, 30, 40)) + IMAGES[0].tobytes()
    assert np.array_equal(read_image(single), IMAGES[0])
    (data / "b.toy").write_bytes(b"TOY" + bytes((255, 255, 255)))
    with pytest.raises(ImageReadError, match="cannot be decoded; the file may be truncated or damaged"):
        read_image(data / "b.toy")


@pytest.mark.usefixtures("_toy")
def test_a_folder_run_segments_it(data: Path, tmp_path: Path, tiny_model: Path) -> None:
    with FolderRun(RunConfig((str(data),), tmp_path / "out", SegmenterOptions(tiny_model))) as run:
        outcomes = list(run.outcomes())
    assert [(plane.image, plane.status, plane.time) for outcome in outcomes for plane in outcome.planes] == [
        (name, "ok", time) for name in ("a.toy", "deep/c.TOYS", "named otherwise") for time in (0, 1)
    ]


@pytest.mark.usefixtures("_toy")
def test_messages_name_the_formats_that_there_are(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with pytest.raises(
        ImageReadError, match=r"known format; expected PNG, JPEG, BMP, TIFF, Zeiss CZI, .*Ventana BIF or toy"
    ):
        read_image(b"anything else")
    with pytest.raises(ImageReadError, match=r"not an image of OME-Zarr, .*CellVoyager plate or toy folder"):
        read_image(tmp_path / "other")


def test_without_its_row_it_is_not_a_format(data: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ImageReadError, match=r"known format; expected PNG, JPEG, BMP, TIFF, Zeiss CZI, .* or Ventana BIF$"
    ):
        read_image(data / "a.toy")
    assert find_images([data], out=tmp_path / "out", may_be_none=True).files == ()


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: f"{form.name}{''.join(form.suffixes[:1])}")
def test_a_row_says_how_its_format_is_known(form: Format) -> None:
    assert bool(form.first_bytes) or form.is_folder or form.needs_suffix
    assert form.suffixes or form.marker_files
    for suffix in form.suffixes:
        assert suffix.startswith(".")
        assert suffix == suffix.lower()
    assert form.is_read is not bool(form.advice)
    others = [other for other in FORMATS if other is not form and other.first_bytes and not other.needs_suffix]
    if not form.needs_suffix:
        assert not any(start.startswith(other.first_bytes) for other in others for start in form.first_bytes)


TIFF_START = b"II*\0\x08\0\0\0"
JPEG_START = b"\xff\xd8\xff\xe0\0\x10JFIF"
OLE_START = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


@pytest.mark.parametrize(
    ("name", "start", "known_as"),
    [
        ("a.ome.btf", TIFF_START, "TIFF"),
        ("a.lsm", TIFF_START, "TIFF"),
        ("plate.001", b"MM\0+", "TIFF"),
        ("no suffix", JPEG_START, "JPEG"),
        ("a.heic", JPEG_START, "JPEG"),  # renamed, or converted by a phone
        ("a.heic", b"\0\0\0\x18ftypheic", "HEIF"),
        ("a.png", b"", "PNG"),  # damaged: to be reported, not passed over
        ("a.png", TIFF_START, "PNG"),  # to be opened as what it is: see `format_of_file`
        ("a.czi", b"ZISRAWFILE", "Zeiss CZI"),
        ("a.czi", b"", "Zeiss CZI"),
        ("a.bin", b"ZISRAWFILE", "Zeiss CZI"),
        ("a.vsi", TIFF_START, "Olympus VSI"),
        ("a.mrxs", JPEG_START, "MIRAX MRXS"),
        ("a.NEF", TIFF_START, "camera raw"),
        ("a.oib", OLE_START, "Olympus OIB"),
        ("sheet.xls", OLE_START, None),
        ("a.txt", b"BM values of today", None),
        ("a.txt", b"II*", None),
        ("a.txt", b"", None),
        ("a.tif.part", TIFF_START, None),
        ("a.tif~", TIFF_START, None),
    ],
)
def test_a_file_in_a_folder_is_known_by_its_suffix_or_its_first_bytes(
    tmp_path: Path, name: str, start: bytes, known_as: str | None
) -> None:
    (tmp_path / name).write_bytes(start)
    form = format_in_folder(tmp_path / name)
    assert (form.name if form else None) == known_as


def test_the_content_decides_what_is_opened_unless_it_is_shared() -> None:
    def name_of(content: bytes, name: str = "") -> str | None:
        form = format_of_file(io.BytesIO(content), name)
        return form.name if form else None

    assert name_of(TIFF_START, "a.png") == name_of(TIFF_START) == "TIFF"
    assert name_of(TIFF_START, "a.VSI") == "Olympus VSI"
    assert name_of(JPEG_START, "a.vsi") == "JPEG"
    assert name_of(b"anything", "a.dcm") == "DICOM"
    assert name_of(b"anything", "a.vsi") is name_of(b"", "a.dcm") is None


def test_a_file_that_changes_is_looked_at_again(tmp_path: Path) -> None:
    path = tmp_path / "arriving"
    path.touch()
    assert format_in_folder(path) is None
    path.write_bytes(TIFF_START)
    assert format_in_folder(path) is not None


def test_a_format_that_is_not_read_says_what_to_do(tmp_path: Path) -> None:
    for name, start, sentence in (
        ("a.oir", b"OLYMPUSRAWFORMAT", r"^Olympus OIR files are not read; export the image as OME-TIFF or OME-Zarr"),
        ("a.gif", b"GIF89a", r"^GIF files are not read; save the image as PNG or TIFF$"),
    ):
        (tmp_path / name).write_bytes(start)
        with pytest.raises(ImageReadError, match=sentence):
            read_image(tmp_path / name)


def test_a_format_is_imported_when_its_first_image_is_opened() -> None:
    code = (
        "import sys\nfrom nuclei_runtime.readers import opening\nfrom nuclei_runtime.runs import inputs\n"
        "print(sorted({'zarr', 'png', 'nuclei_runtime.readers.pictures',"
        " 'pylibCZIrw', 'nd2', 'liffile', 'oiffile', 'slideio', 'openslide', 'nuclei_runtime.readers.czi',"
        " 'nuclei_runtime.readers.tiff.stack', 'nuclei_runtime.readers.ome_zarr'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_folder_without_read_permission_is_not_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_file", refuse)
    assert format_of_folder(tmp_path) is None
