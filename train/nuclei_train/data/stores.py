"""The files of a data set, in a folder or in a zip that is read in place."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Protocol

from nuclei_train.data.archive import list_entries, open_zip, read_entry
from nuclei_train.errors import DatasetError


class Store(Protocol):
    """Named files, in a zip or in a folder; names are relative, with ``/`` as separator."""

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
        """Return the unpacked size of all files, as recorded in the zip."""
        return sum(info.file_size for info in self._entries.values())

    def read(self, name: str) -> bytes:
        """Return the content of one file."""
        return read_entry(self._zip, self._entries[name])


class FolderStore:
    """The files below one folder."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def names(self) -> list[str]:
        """Return the name of every file, sorted; symbolic links are followed.

        Raises
        ------
        DatasetError
            A folder cannot be read.
        """
        real = self._path.resolve()
        return sorted(file.relative_to(self._path).as_posix() for file in _files(self._path, (real, *real.parents)))

    def read(self, name: str) -> bytes:
        """Return the content of one file."""
        try:
            return (self._path / name).read_bytes()
        except OSError as error:
            raise DatasetError(f"{self._path / name}: cannot be read: {error.strerror or error}") from error


def _files(folder: Path, above: tuple[Path, ...]) -> Iterator[Path]:
    """Yield the files below a folder; links back to one of the folders `above` are not followed."""
    try:
        entries = list(folder.iterdir())
    except OSError as error:
        raise DatasetError(f"{folder}: cannot be read: {error.strerror or error}") from error
    for entry in entries:
        if entry.is_file():
            yield entry
        elif entry.is_dir() and (real := entry.resolve()) not in above:
            yield from _files(entry, (*above, real))
