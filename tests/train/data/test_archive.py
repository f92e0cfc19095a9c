"""Zips that are damaged, unsafe or partly unpacked."""

from __future__ import annotations

import shutil
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from nuclei_train.data.archive import MAX_ENTRY_BYTES, extract_zip, list_entries, open_zip, read_entry
from nuclei_train.errors import ArchiveError, DatasetError


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    """Write a zip with uncompressed content, so that the tests know the position of each byte."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


@pytest.fixture
def small_zip(tmp_path: Path) -> Path:
    return write_zip(
        tmp_path / "small.zip", {"a/one.png": b"1" * 500, "a/two.png": b"2" * 500, "three.png": b"3" * 500}
    )


def test_unpacks_every_file(small_zip: Path, tmp_path: Path) -> None:
    target = tmp_path / "small"
    assert extract_zip(small_zip, target)
    assert (target / "a" / "two.png").read_bytes() == b"2" * 500
    assert sorted(p.name for p in target.rglob("*") if p.is_file()) == ["one.png", "three.png", "two.png"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["small", "small.zip"]


def test_what_is_unpacked_already_is_left_alone(small_zip: Path, tmp_path: Path) -> None:
    target = tmp_path / "small"
    extract_zip(small_zip, target)
    written = (target / "three.png").stat().st_mtime_ns
    assert not extract_zip(small_zip, target)
    assert (target / "three.png").stat().st_mtime_ns == written


@pytest.mark.parametrize("change", ["missing", "cut", "altered", "added"])
def test_a_folder_that_differs_from_the_zip_is_refused_and_kept(small_zip: Path, tmp_path: Path, change: str) -> None:
    target = tmp_path / "small"
    extract_zip(small_zip, target)
    file = target / "a" / "two.png"
    if change == "missing":
        file.unlink()
    elif change == "cut":
        file.write_bytes(b"2" * 100)
    elif change == "altered":
        file.write_bytes(b"x" * 500)
    else:
        (target / "a" / "four.png").write_bytes(b"4")
    with pytest.raises(DatasetError, match=r"first difference is a/four\.png" if change == "added" else "a/two.png"):
        extract_zip(small_zip, target)
    assert (target / "three.png").is_file()


def test_what_a_killed_unpacking_left_is_replaced(small_zip: Path, tmp_path: Path) -> None:
    left = tmp_path / ".small.partial" / "a"
    left.mkdir(parents=True)
    (left / "one.png").write_bytes(b"1" * 10)
    (left / "stale.png").write_bytes(b"stale")
    assert extract_zip(small_zip, tmp_path / "small")
    assert (tmp_path / "small" / "a" / "one.png").read_bytes() == b"1" * 500
    assert not list(tmp_path.rglob("stale.png"))


@pytest.mark.parametrize(
    "name",
    [
        "../escape.png",
        "a/../../escape.png",
        "/escape.png",
        "C:\\escape.png",
        "C:escape.png",
        "..\\escape.png",
        "\\\\server\\share\\escape.png",
    ],
)
def test_an_entry_that_leads_out_stops_everything(tmp_path: Path, name: str) -> None:
    source = write_zip(tmp_path / "evil.zip", {"good.png": b"1", name: b"2"})
    target = tmp_path / "deep" / "evil"
    target.parent.mkdir()
    with pytest.raises(ArchiveError, match="leads out of the target folder") as raised:
        extract_zip(source, target)
    assert "escape.png" in str(raised.value)
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["evil.zip"]
    assert not target.exists()


@pytest.mark.parametrize("leads_to", ["../secret.txt", "/", "good.png"])
def test_a_link_in_a_zip_becomes_a_file_that_leads_nowhere(tmp_path: Path, leads_to: str) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_bytes(b"secret")
    path = tmp_path / "links.zip"
    link = zipfile.ZipInfo("link")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("good.png", b"1")
        archive.writestr(link, leads_to)
    assert extract_zip(path, tmp_path / "links")
    assert not (tmp_path / "links" / "link").is_symlink()
    assert (tmp_path / "links" / "link").read_bytes() == leads_to.encode()
    # Writing through the link would need a folder where there is a file.
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("link/secret.txt", b"overwritten")
    with pytest.raises(ArchiveError, match="cannot be written"):
        extract_zip(path, tmp_path / "through")
    assert secret.read_bytes() == b"secret"
    assert not (tmp_path / "through").exists()


def claim(path: Path, name: str, size: int) -> None:
    """Make an entry claim to unpack to another size."""
    content = bytearray(path.read_bytes())
    listed = content.index(name.encode(), content.index(b"PK\x01\x02"))
    content[listed - 46 + 24 : listed - 46 + 28] = struct.pack("<I", size)  # APPNOTE.TXT 4.3.12
    path.write_bytes(content)


def test_an_entry_that_unpacks_to_more_than_memory_holds_is_refused(small_zip: Path, tmp_path: Path) -> None:
    claim(small_zip, "a/two.png", MAX_ENTRY_BYTES + 1)
    with pytest.raises(ArchiveError, match=r"entry 'a/two\.png' unpacks to 1073741825 bytes, expected at most"):
        extract_zip(small_zip, tmp_path / "small")
    assert [p.name for p in tmp_path.iterdir()] == ["small.zip"]


def test_a_bomb_that_hides_its_size_unpacks_to_no_more_than_it_claims(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.png", bytes(1 << 24))
    assert path.stat().st_size < 1 << 15
    claim(path, "bomb.png", 1000)
    with pytest.raises(ArchiveError, match=r"entry 'bomb\.png' is damaged: Bad CRC-32"):
        extract_zip(path, tmp_path / "bomb")
    assert [p.name for p in tmp_path.iterdir()] == ["bomb.zip"]


def test_more_than_the_disk_has_room_for_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    n_files = free // (1 << 30) + 2
    if n_files > 100_000:
        pytest.skip(f"NOT RUN: a disk with {free} bytes left has room for everything")
    path = write_zip(tmp_path / "many.zip", {f"{index:06d}.png": b"" for index in range(n_files)})
    content = bytearray(path.read_bytes())
    start = content.find(b"PK\x01\x02")
    while start >= 0:
        content[start + 24 : start + 28] = struct.pack("<I", 1 << 30)
        start = content.find(b"PK\x01\x02", start + 4)
    path.write_bytes(content)
    with pytest.raises(
        ArchiveError, match=rf"unpacks to {n_files << 30} bytes, but the disk has only \d+ left; free some"
    ):
        extract_zip(path, tmp_path / "many")
    assert [p.name for p in tmp_path.iterdir()] == ["many.zip"]


def test_names_that_a_windows_tool_wrote_are_understood(tmp_path: Path) -> None:
    source = write_zip(tmp_path / "windows.zip", {"a\\": b"", "a\\images\\a.png": b"1", "./b/images/b.png": b"2"})
    with open_zip(source) as archive:
        entries = list_entries(archive)
        assert list(entries) == ["a/images/a.png", "b/images/b.png"]
        assert read_entry(archive, entries["b/images/b.png"]) == b"2"
    extract_zip(source, tmp_path / "windows")
    assert (tmp_path / "windows" / "a" / "images" / "a.png").read_bytes() == b"1"


@pytest.mark.parametrize(("kept", "named"), [(700, "a/two.png"), (1200, "three.png"), (-10, "three.png")])
def test_a_truncated_zip_names_its_last_entry(small_zip: Path, kept: int, named: str) -> None:
    small_zip.write_bytes(small_zip.read_bytes()[:kept])
    with pytest.raises(ArchiveError, match="truncated") as raised:
        open_zip(small_zip)
    assert repr(named) in str(raised.value)
    assert str(small_zip) in str(raised.value)


def test_a_truncated_zip_that_was_written_to_a_stream_names_its_last_entry(tmp_path: Path) -> None:
    path = tmp_path / "stream.zip"

    class Stream:
        """A file that cannot seek: zipfile then writes the sizes after the entries, not before them."""

        def __init__(self) -> None:
            self.content = b""

        def write(self, content: bytes) -> int:
            self.content += content
            return len(content)

        def flush(self) -> None: ...

    stream = Stream()
    with zipfile.ZipFile(stream, "w") as archive:  # type: ignore[call-overload]
        for name in ("one.png", "two.png", "three.png"):
            archive.writestr(name, name * 100)
    path.write_bytes(stream.content[: stream.content.index(b"three.png") - 5])
    with pytest.raises(ArchiveError, match=r"'two\.png'"):
        open_zip(path)


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\x03\x04", b"not a zip at all" * 100])
def test_a_file_that_is_not_a_zip_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "none.zip"
    path.write_bytes(content)
    with pytest.raises(ArchiveError, match="not a readable zip"):
        open_zip(path)


def test_a_flipped_byte_names_the_entry_and_leaves_nothing(small_zip: Path, tmp_path: Path) -> None:
    content = bytearray(small_zip.read_bytes())
    content[content.index(b"2" * 500) + 250] ^= 0xFF
    small_zip.write_bytes(content)
    with pytest.raises(ArchiveError, match=r"entry 'a/two\.png' is damaged"):
        extract_zip(small_zip, tmp_path / "small")
    assert [p.name for p in tmp_path.iterdir()] == ["small.zip"]


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_damaged_compressed_data_name_the_entry(tmp_path: Path, method: int) -> None:
    path = tmp_path / "packed.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("one.png", bytes(range(256)) * 8)
        start = archive.getinfo("one.png").header_offset + struct.calcsize("<4s5H3I2H") + len("one.png")
    content = bytearray(path.read_bytes())
    content[start : start + 20] = b"\xff" * 20
    path.write_bytes(content)
    with pytest.raises(ArchiveError, match=r"entry 'one\.png' is damaged"):
        extract_zip(path, tmp_path / "packed")


def test_an_encrypted_entry_is_named(small_zip: Path, tmp_path: Path) -> None:
    content = bytearray(small_zip.read_bytes())
    content[6] |= 1  # general purpose flag, bit 0, in the first local header
    content[content.index(b"PK\x01\x02") + 8] |= 1  # and in the list of entries
    small_zip.write_bytes(content)
    with pytest.raises(ArchiveError, match=r"entry 'a/one\.png' is damaged: .*encrypted"):
        extract_zip(small_zip, tmp_path / "small")


def test_an_entry_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    source = write_zip(tmp_path / "clash.zip", {"a": b"1", "a/one.png": b"2"})  # a file, and a folder of its name
    with pytest.raises(ArchiveError, match="cannot be written"):
        extract_zip(source, tmp_path / "clash")
    assert not (tmp_path / "clash").exists()


def test_random_damage_is_an_error_or_harmless(make_dsb_zip: Callable[..., Path], tmp_path: Path) -> None:
    import random

    path = make_dsb_zip(tmp_path / "field.zip", [1], size=(32, 32))
    whole, chance, raised = path.read_bytes(), random.Random(42), 0
    for round_ in range(150):
        content = bytearray(whole)
        for _ in range(chance.choice([1, 4])):
            content[chance.randrange(len(content))] = chance.randrange(256)
        path.write_bytes(content)
        target = tmp_path / f"round_{round_}"
        try:
            extract_zip(path, target)
        except ArchiveError:
            raised += 1
            assert not target.exists()
    assert raised > 50
