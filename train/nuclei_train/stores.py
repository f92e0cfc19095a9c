"""Where the files of a data set lie: in a zip, read in place, or in a folder."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Protocol

from nuclei_runtime.errors import DatasetError
from nuclei_train.archive import list_entries, open_zip, read_entry


class Store(Protocol):
    """Named files, in a zip or in a folder; names are relative and have ``/`` between their parts."""

    def names(self) -> Iterable[str]:
        """Return the name of every file."""

    def read(self, name: str) -> bytes:
        """Return the content of one file, or raise a DatasetError."""


class ZipStore:
    """The files of one zip, read in place."""

    def __init__(self, path: Path) -> None:
        self._zip = open_zip(path)
        self._entries = list_entries(self._zip)

    def names(self) -> Collection[str]:
        """Return the name of every file, in the order of the zip."""
        return self._entries.keys()

    def content_bytes(self) -> int:
        """Return what all files together unpack to, as the zip says."""
        return sum(info.file_size for info in self._entries.values())

    def read(self, name: str) -> bytes:
        """Return the content of one file."""
        return read_entry(self._zip, self._entries[name])


class FolderStore:
    """The files below one folder."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def names(self) -> list[str]:
        """Return the name of every file, sorted."""
        return sorted(p.relative_to(self._path).as_posix() for p in self._path.rglob("*") if p.is_file())

    def read(self, name: str) -> bytes:
        """Return the content of one file."""
        try:
            return (self._path / name).read_bytes()
        except OSError as error:
            raise DatasetError(f"{self._path / name}: cannot be read: {error.strerror or error}") from error
