"""Zips: damage is reported by entry, and unpacking is safe and all or nothing."""

from __future__ import annotations

import shutil
import struct
import zipfile
import zlib
from collections.abc import Collection
from mmap import ACCESS_READ, mmap
from pathlib import Path, PureWindowsPath

from nuclei_runtime.readers.formats import image_suffixes
from nuclei_train.data.composed import composed
from nuclei_train.errors import ArchiveError, DatasetError

MAX_ENTRY_BYTES = 1 << 30
"""An entry is held in memory. No image is as large as a gibibyte, but a few kilobytes can claim to unpack to more."""

DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    struct.error,
)
"""What zipfile raises for damaged bytes, an unknown compression method or an encrypted entry."""


def data_zips(data: Path) -> list[Path]:
    """Return DATA if it is a zip, or the zips in the folder DATA, sorted; zips of ImageJ's ROIs do not count."""
    if not data.is_dir():
        return [data] if _is_zip(data) else []
    files = list(data.iterdir())
    images = {composed(path.stem) for path in files if path.name.lower().endswith(image_suffixes())}
    return sorted(path for path in files if _is_zip(path) and not _holds_rois(path, images))


def _is_zip(path: Path) -> bool:
    return path.suffix.lower() == ".zip" and path.is_file()


def _holds_rois(path: Path, images: Collection[str]) -> bool:
    """Whether a zip belongs to an image: by its name or, if it can be read, because it contains ROIs."""
    if composed(path.stem) in images or composed(path.stem).removesuffix("_rois") in images:
        return True
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.lower().endswith(".roi") for name in archive.namelist())
    except DAMAGE:
        return False


def open_zip(path: Path) -> zipfile.ZipFile:
    """Open a zip.

    Raises
    ------
    ArchiveError
        It is not a zip, or it is truncated; the message names the last entry found in it.
    """
    try:
        return zipfile.ZipFile(path)
    except DAMAGE as error:
        last = _last_local_entry(path)
        if last is None:
            raise ArchiveError(f"{path}: not a readable zip ({error}); download it again") from error
        raise ArchiveError(
            f"{path}: truncated, or damaged at its end ({error}): the last entry found is {last!r}; "
            "download the zip again"
        ) from error


def list_entries(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return a zip's files by name, with ``/`` as separator; of two entries with one name, the last."""
    # Not ZipInfo.is_dir: it fails on an empty name and does not recognise folders that end in a backslash.
    files = (info for info in archive.infolist() if not info.filename.endswith(("/", "\\")))
    return {PureWindowsPath(info.filename).as_posix(): info for info in files}


def read_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """Return the content of one entry.

    Raises
    ------
    ArchiveError
        It is damaged (zipfile checks its CRC-32), encrypted or larger than `MAX_ENTRY_BYTES`; the message names it.
    """
    if info.file_size > MAX_ENTRY_BYTES:  # zipfile unpacks no more than this size, whatever the entry contains
        raise ArchiveError(
            f"{archive.filename}: entry {info.filename!r} unpacks to {info.file_size} bytes, expected at most "
            f"{MAX_ENTRY_BYTES}; use a zip from a source that you trust"
        )
    try:
        return archive.read(info)
    except DAMAGE as error:
        raise ArchiveError(
            f"{archive.filename}: entry {info.filename!r} is damaged: {error}; download the zip again"
        ) from error


def extract_zip(path: Path, target: Path) -> bool:
    """Unpack a zip into a folder of its own.

    The files are written to a hidden folder next to `target`, which is renamed when it is complete: if unpacking is
    interrupted, there is no `target`.

    Parameters
    ----------
    path : Path
    target : Path
        The folder to make.

    Returns
    -------
    bool
        False if `target` already existed and contains every file of the zip unchanged.

    Raises
    ------
    ArchiveError
        An entry is damaged, too large or cannot be written, its name is absolute or leads out of `target`, or the
        whole does not fit on the disk. `target` is not created.
    DatasetError
        `target` exists but is not what the zip unpacks to.
    """
    with open_zip(path) as archive:
        entries = list_entries(archive)
        for name in entries:
            _check_name(path, name)
        if target.exists():
            difference = _first_difference(entries, target)
            if difference is not None:
                raise DatasetError(
                    f"{target}: not what {path} unpacks to (the first difference is {difference}); "
                    "delete or rename this folder"
                )
            return False
        partial = target.with_name(f".{target.name}.partial")
        needed, free = sum(info.file_size for info in entries.values()), shutil.disk_usage(target.parent).free
        if needed > free:
            raise ArchiveError(
                f"{path}: unpacks to {needed} bytes, but the disk has only {free} left; "
                "free some space, or use a zip from a source that you trust"
            )
        shutil.rmtree(partial, ignore_errors=True)  # left by an interrupted run
        try:
            for name, info in entries.items():
                _write(partial / name, read_entry(archive, info))
            partial.rename(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return True


def _check_name(path: Path, name: str) -> None:
    """Raise if an entry would be written outside the target; PureWindowsPath covers the paths of every system."""
    entry = PureWindowsPath(name)
    if entry.drive or entry.root or ".." in entry.parts or not entry.parts:
        raise ArchiveError(
            f"{path}: entry {name!r} leads out of the target folder, so nothing was unpacked; "
            "use a zip from a source that you trust"
        )


def _write(file: Path, content: bytes) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    except OSError as error:
        raise ArchiveError(f"{file}: cannot be written: {error.strerror or error}") from error


def _first_difference(entries: dict[str, zipfile.ZipInfo], folder: Path) -> str | None:
    """Name the first file that is missing or changed, or an image that is not in the zip."""
    found = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    for name, info in entries.items():
        if name not in found or zlib.crc32((folder / name).read_bytes()) != info.CRC:
            return name
    added = sorted(name for name in found - set(entries) if name.lower().endswith(image_suffixes()))
    return added[0] if added else None


def _last_local_entry(path: Path) -> str | None:
    """Name the last entry of a zip whose central directory, at its end, is lost; None if it does not begin like a zip.

    Local file headers (APPNOTE.TXT 4.3.7 of the zip format) are found by their signature, not by the sizes in them,
    which zips written to a stream omit.
    """
    signature, header = b"PK\x03\x04", struct.Struct("<4s5H3I2H")
    try:
        with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
            if content[: len(signature)] != signature:
                return None
            start = content.rfind(signature)
            while start >= 0:
                name_start = start + header.size
                if name_start <= len(content):
                    *_, name_length, _ = header.unpack(content[start:name_start])
                    name = content[name_start : name_start + name_length]
                    if len(name) == name_length > 0:
                        return name.decode("utf-8", "replace")
                start = content.rfind(signature, 0, start)
    except (OSError, ValueError):  # ValueError: an empty file cannot be mapped
        pass
    return None
