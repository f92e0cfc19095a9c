"""What the code knows of an image format: how to recognise it, and what opens it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path, PurePath
from typing import Any, BinaryIO, cast

from nuclei_runtime.errors import ImageReadError, ImageShapeError, MissingExtraError
from nuclei_runtime.readers.plates.field import Field
from nuclei_runtime.readers.scenes import Contents
from nuclei_runtime.wording import counted

_MARKER_BYTES = 4096

Opener = Callable[[BinaryIO | Path, ExitStack], Contents]
"""Takes a file, positioned at its start, or the path of a folder, and returns its contents. What has to be closed later
is entered into the stack of resources. Raises what `nuclei_runtime.readers.opening.read_image` raises."""


@dataclass(frozen=True)
class Format:
    """An image format.

    Attributes
    ----------
    name : str
        For messages.
    suffixes : tuple of str
        In lower case. In a folder that is searched, a name with one of these suffixes counts as an image.
    opener : str, optional
        The `Opener` as ``module:name``. It is imported when the first image of the format is opened. None for a format
        that is not read.
    first_bytes : tuple of bytes
        A file that begins with one of these is of this format, whatever its suffix.
    needs_suffix : bool
        Whether a file must also have one of the suffixes, because other formats begin with the same bytes. Such a row
        takes precedence: a MIRAX slide begins as a JPEG, which is only its thumbnail. Without `first_bytes`, the suffix
        alone says what the file is, unless its first bytes are those of another format.
    marker_files : tuple of str
        For a format whose images are folders: a folder that holds one of these files, or has one of the suffixes, is of
        this format. ``*.HTD`` stands for any file with this suffix, in upper or lower case.
    marker_text : bytes
        A marker file counts only if this is near its beginning.
    plate : str, optional
        For a format whose folders may be plates: a function as ``module:name`` that takes the folder and returns its
        fields, or None if it is no plate.
    extra : tuple of (str, str), optional
        The package that the opener needs and the extra that installs it.
    indexes : tuple of str
        Patterns of the names, in lower case, of the files that say what a folder of this format holds. They are read
        before anything else of an image that a URL names is fetched.
    companion : str
        For a format whose files have their pixels in a folder beside them: the name of that folder, in which
        ``{name}`` stands for that of the file, and ``{stem}`` for that without its suffix.
    advice : str
        What to do with an image of a format that is not read.
    """

    name: str
    suffixes: tuple[str, ...]
    opener: str | None = None
    first_bytes: tuple[bytes, ...] = ()
    needs_suffix: bool = False
    marker_files: tuple[str, ...] = ()
    marker_text: bytes = b""
    plate: str | None = None
    extra: tuple[str, str] | None = None
    indexes: tuple[str, ...] = ()
    companion: str = ""
    advice: str = ""

    @property
    def is_folder(self) -> bool:
        """Whether an image of this format is a folder."""
        return bool(self.marker_files)

    @property
    def is_read(self) -> bool:
        """Whether images of this format are read, where its extra is installed."""
        return self.opener is not None or self.plate is not None

    @property
    def obstacle(self) -> str | None:
        """Why no image of this format can be read on this machine, and what to do; None if they can."""
        if not self.is_read:
            return f"{self.name} files are not read; {self.advice}"
        if self.extra is not None and find_spec(self.extra[0]) is None:
            return str(MissingExtraError(*self.extra))
        return None

    def open(self, source: BinaryIO | Path, resources: ExitStack) -> Contents:
        """Return the contents of an image of this format.

        Raises
        ------
        MissingExtraError
            The package that the format needs is not installed.
        ImageReadError, ImageShapeError
            The format is not read. See also `nuclei_runtime.readers.opening.read_image`.
        """
        if self.extra is not None and find_spec(self.extra[0]) is None:
            raise MissingExtraError(*self.extra)
        if isinstance(source, Path) and (fields := self.fields(source)) is not None:
            raise ImageShapeError(f"the folder is a plate of {counted(len(fields), 'field')}, not an image")
        if self.opener is None:
            raise ImageReadError(self.obstacle or f"the folder holds no {self.name}")
        return cast(Opener, _imported(self.opener))(source, resources)

    def fields(self, folder: Path) -> Sequence[Field] | None:
        """Return the fields of a plate; None if the folder is none, or the extra is missing that would tell.

        Raises
        ------
        ImageReadError, ImageShapeError
            The index of the plate is damaged or ambiguous.
        """
        if self.plate is None or (self.extra is not None and find_spec(self.extra[0]) is None):
            return None
        return cast(Callable[[Path], Sequence[Field] | None], _imported(self.plate))(folder)

    def marks(self, folder: Path) -> bool:
        """Whether a folder is of this format by its suffix or by a file in it."""
        return folder.suffix.lower() in self.suffixes or any(
            self._is_marker(path) for name in self.marker_files for path in _matching(folder, name)
        )

    def is_index(self, path: Path) -> bool:
        """Whether a file has the name of the index of a plate of this format."""
        names = [PurePath(name).name.lower() for name in self.marker_files] if self.plate and not self.suffixes else []
        return any(fnmatchcase(path.name.lower(), name) for name in names)

    def _is_marker(self, path: Path) -> bool:
        try:
            if not path.is_file():
                return False
            if not self.marker_text:
                return True
            with path.open("rb") as file:
                return self.marker_text in file.read(_MARKER_BYTES)
        except OSError:  # no permission
            return False

    def begins(self, start: bytes, suffix: str) -> bool:
        """Whether a file that begins like this and has this suffix, in lower case, is of this format."""
        if self.is_folder or (self.needs_suffix and suffix not in self.suffixes):
            return False
        return start.startswith(self.first_bytes) if self.first_bytes else self.needs_suffix


def _imported(name: str) -> Any:
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)


def _matching(folder: Path, name: str) -> Iterator[Path]:
    """Yield the files that a marker stands for."""
    if not name.startswith("*"):
        yield folder / name
        return
    try:
        with os.scandir(folder) as entries:
            yield from (Path(entry) for entry in entries if entry.name.lower().endswith(name[1:].lower()))
    except OSError:  # no permission
        return
