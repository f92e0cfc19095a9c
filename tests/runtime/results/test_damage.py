"""A result is made again only if it is certain that an accident befell it: what is odd may be a person's work."""

from __future__ import annotations

import codecs
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from nuclei_runtime.readers.plane import plane_of
from nuclei_runtime.results.damage import is_damaged
from nuclei_runtime.results.differing import Differing, differing_results
from nuclei_runtime.results.records import Record, digest_file
from nuclei_runtime.segmentation.blocks import Block
from nuclei_runtime.writers.outputs import OUTPUTS
from nuclei_runtime.writers.plane_files import write_plane_files

LABELS = np.kron(np.arange(30, dtype=np.uint16).reshape(5, 6), np.ones((9, 8), np.uint16))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """One file of each output, as a run writes it."""
    work = tmp_path_factory.mktemp("results")
    outputs = [output for output in OUTPUTS if output.folder != "ome-zarr" and not output.is_of_cells]
    paths = {output: work / f"{output.folder}{output.ending}" for output in outputs}
    image = (LABELS * 7 % 251).astype(np.uint8)
    block = Block(slice(0, 45), slice(0, 48), image, LABELS.astype(np.int32))
    write_plane_files("a.png", plane_of(image), [block], paths)
    return {path.name: path.read_bytes() for path in paths.values()}


@pytest.fixture
def judged(tmp_path: Path) -> Callable[[str, bytes], bool]:
    def judge(name: str, content: bytes) -> bool:
        (tmp_path / name).write_bytes(content)
        return is_damaged(tmp_path / name)

    return judge


RESULTS = ["labels.tif", "original_labels.tif", "overlays.png", "tables.csv", "geojson.geojson", "roi.zip"]


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_is_damaged_wherever_it_is_cut_off(
    name: str, results: dict[str, bytes], judged: Callable[[str, bytes], bool]
) -> None:
    whole = results[name]
    assert not judged(name, whole)
    lengths = {*range(0, len(whole), max(1, len(whole) // 60)), len(whole) - 20}
    if name == "tables.csv":  # a cut within the last cell of a row, or behind it, may be that of an editor
        columns = whole.split(b"\n")[0].count(b",")
        lengths = {n for n in lengths if whole[:n].rpartition(b"\n")[2].count(b",") not in (0, columns)}
    assert [n for n in lengths if not judged(name, whole[:n])] == []
    assert judged(name, bytes(len(whole)))
    # A power cut may leave the right length, and zeros.
    assert judged(name, whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2))


@pytest.mark.parametrize("name", ["labels.tif", "overlays.png", "roi.zip"])
def test_bytes_that_do_not_fit_their_checksum_are_damaged(
    name: str, results: dict[str, bytes], judged: Callable[[str, bytes], bool]
) -> None:
    whole = results[name]
    at = len(whole) * 2 // 3 if name != "roi.zip" else 60
    assert judged(name, whole[:at] + bytes(byte ^ 0x55 for byte in whole[at : at + 9]) + whole[at + 9 :])


def composite(path: Path) -> None:
    tifffile.imwrite(path, np.stack([LABELS, LABELS]), imagej=True, metadata={"axes": "CYX", "mode": "composite"})


def not_a_number(path: Path) -> None:
    tifffile.imwrite(path, np.where(LABELS == 0, np.nan, LABELS).astype(np.float32))


def pages(path: Path) -> None:
    with tifffile.TiffWriter(path) as writer:
        for _ in range(2):
            writer.write(LABELS, metadata=None)


def other_codec(path: Path) -> None:
    tifffile.imwrite(path, LABELS)
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tiff.pages.first.tags["Compression"].overwrite(34887)  # LERC


def packed(path: Path) -> None:
    Image.fromarray(LABELS).save(path, "TIFF", compression="tiff_lzw")


def colour(path: Path) -> None:
    tifffile.imwrite(
        path, np.stack([LABELS, LABELS], axis=-1), photometric="minisblack", compression="zlib", tile=(16, 16)
    )


def picture(path: Path) -> None:
    Image.fromarray(LABELS.astype(np.uint8)).save(path, "PNG")


def text(path: Path) -> None:
    path.write_text("see the other folder\n")


CORRECTIONS = [composite, not_a_number, pages, other_codec, packed, colour, picture, text]


@pytest.mark.parametrize("save", CORRECTIONS, ids=lambda save: save.__name__)
def test_a_label_image_that_is_odd_is_not_damaged(save: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    save(path)
    assert not is_damaged(path)
    if save not in (text, composite, pages):  # these may lack whole planes and still be something
        path.write_bytes(path.read_bytes()[:-30])
        assert is_damaged(path)


EDITED: dict[str, tuple[str, Any]] = {
    "a table without its last line end": ("a.csv", b"image,label,area_px\na,1,20\na,2,30"),
    "a table of a spreadsheet": ("a.csv", b"image;label;area_px\r\na;1;20"),
    "a table as Unicode text": ("a.csv", codecs.BOM_UTF16_LE + "image\tlabel\na\t1\n".encode("utf-16-le")),
    "GeoJSON with a comma too many": ("a.geojson", b'{"type": "FeatureCollection", "features": [],}\n'),
    "GeoJSON in Latin-1": ("a.geojson", '{"type": "FeatureCollection", "name": "Nährlösung"}'.encode("latin-1")),
    "GeoJSON with a remark": ("a.geojson", b'{"features": []} // {checked}'),
    "JSON that is deep": ("a.json", b"[" * 100_000 + b"]" * 100_000),
    "a result of another format": ("a.parquet", b"PAR1 and more"),
}


@pytest.mark.parametrize("edited", EDITED)
def test_what_was_edited_is_not_damaged(edited: str, judged: Callable[[str, bytes], bool]) -> None:
    assert not judged(*EDITED[edited])


def test_an_archive_that_needs_a_password_is_not_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("1.roi", b"Iout")
    content = bytearray(path.read_bytes())
    for signature, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(signature) + flags] |= 1
    path.write_bytes(content)
    assert not is_damaged(path)


def test_a_result_that_is_a_link_or_cannot_be_read_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    (out / "labels").mkdir(parents=True)
    for name in ("a", "b", "c"):
        (out / f"labels/{name}.tif").write_bytes(json.dumps(name).encode())
    results = {f"labels/{name}.tif": digest_file(out / f"labels/{name}.tif").sha256 for name in "abc"}
    record = Record("a.png", "a", "key", None, (), results)
    (tmp_path / "mine.tif").write_bytes(b"mine")
    (out / "labels/a.tif").unlink()
    try:
        (out / "labels/a.tif").symlink_to(tmp_path / "mine.tif")
    except OSError as error:
        pytest.skip(f"NOT RUN: this system makes no links: {error}")
    (out / "labels/b.tif").unlink()
    real = Path.open

    def refusing(path: Path, *arguments: Any, **options: Any) -> Any:
        if path.name == "c.tif":
            raise PermissionError(13, "Permission denied")
        return real(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", refusing)
    assert differing_results(out, record) == Differing(("labels/b.tif",), ("labels/a.tif", "labels/c.tif"))
