"""Folders that a URL names, in an object store or on a server: all access to them, through fsspec.

This is the only module that talks to a network, and only to what the user named by URL. fsspec is imported when the
first URL is used. Credentials come from fsspec's own configuration; a URL that holds any is refused, because URLs stand
in tables, provenance and messages.

What goes wrong is raised as an `OSError` with a number, whatever the package for the store raised, so that the rest of
the code need not tell an object store from a disk.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from nuclei_runtime.errors import InputsError, NucleiError
from nuclei_runtime.stores.faults import with_number
from nuclei_runtime.stores.listed import Listed
from nuclei_runtime.stores.system import connect, make_parent
from nuclei_runtime.stores.url import checked_url, is_file_name

_ATTEMPTS = 2
"""How often an object is read or written. The packages for the stores have retries of their own, which are longer."""

_PAUSE_S = 2.0

_PASSING = frozenset((errno.EIO, errno.ETIMEDOUT, errno.EBUSY))
"""Errors that may not occur again."""

_AT_ONCE = 10_000
"""How many files fsspec is asked for at a time: for each, it keeps some memory until all are there."""

_T = TypeVar("_T")


@dataclass(frozen=True)
class RemoteFolder:
    """A folder that a URL names; it need not exist. It can be pickled: each process connects by itself.

    Attributes
    ----------
    url : str
        Without a slash at the end.

    Raises
    ------
    InputsError
        It is no URL, or one that holds credentials or names several stores.
    """

    url: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", checked_url(self.url))

    def __str__(self) -> str:
        return self.url

    def at(self, name: str) -> str:
        """Return the URL of something in the folder, by its name relative to it."""
        return f"{self._start}{name}" if name else self.url

    @property
    def _start(self) -> str:
        return self.url if self.url.endswith("/") else f"{self.url}/"

    def folder(self, name: str) -> RemoteFolder:
        """Return a folder in this one."""
        return RemoteFolder(self.at(name))

    def name_of(self, other: RemoteFolder) -> str | None:
        """Return the name of another folder relative to this one, empty for the same; None if it is elsewhere."""
        if other.url == self.url:
            return ""
        return other.url.removeprefix(self._start) if other.url.startswith(self._start) else None

    def files(self, name: str = "") -> dict[str, int | None]:
        """Return all that is below a folder in this one: the size in bytes by the name relative to this one.

        If `name` is a file, it is returned alone. Nothing is there if the folder does not exist.

        Raises
        ------
        OSError
            The folder cannot be listed.
        """
        return {key: one.size for key, one in self.listing(name).items()}

    def listing(self, name: str = "") -> dict[str, Listed]:
        """Return what the store tells of all that `files` names, and raise what it raises."""
        with self._asking(name) as (system, path):
            system.invalidate_cache()
            found = system.find(path, detail=True)
        root = self._path(system).rstrip("/")
        named = {full[len(root) :].lstrip("/"): Listed.of(info) for full, info in found.items()}
        return {key: one for key, one in named.items() if key and not key.endswith("/")}

    def listed(self, name: str) -> Listed:
        """Return what the store tells of a file.

        Raises
        ------
        OSError
            FileNotFoundError, if there is none.
        """
        with self._asking(name) as (system, path):
            system.invalidate_cache()
            return Listed.of(system.info(path))

    def entries(self) -> tuple[dict[str, int | None], list[str]]:
        """Return the files directly in the folder, with their sizes, and the names of the folders in it.

        Raises
        ------
        OSError
            The folder cannot be listed.
        """
        with self._asking("") as (system, path):
            system.invalidate_cache()
            try:
                found = system.ls(path, detail=True)
            except FileNotFoundError:
                return {}, []
        files, folders = {}, []
        for info in found:
            name = PurePosixPath(info["name"]).name
            if info["name"].rstrip("/") == path.rstrip("/"):  # a mark of the folder itself, or a file of its name
                continue
            if info["type"] == "directory":
                folders.append(name)
            else:
                files[name] = info.get("size")
        return files, folders

    def kind(self, name: str = "") -> str | None:
        """Return whether a name, or the folder itself, stands for a ``file`` or a ``directory``; None for neither."""
        with self._asking(name) as (system, path):
            system.invalidate_cache()
            try:
                return str(system.info(path)["type"])
            except FileNotFoundError:
                return None

    def read(self, name: str) -> bytes:
        """Return what is in a file.

        Raises
        ------
        OSError
            FileNotFoundError, if there is none.
        """
        return self._patiently(name, lambda system, path: bytes(system.cat_file(path)))

    def read_starts(self, names: Iterable[str], n_bytes: int) -> dict[str, bytes]:
        """Return the first bytes of files; none of a file that cannot be read."""
        in_order = list(names)
        if not in_order:
            return {}
        with self._asking("") as (system, _):
            paths = [self._path(system, name) for name in in_order]
            found = system.cat_ranges(paths, [0] * len(paths), [n_bytes] * len(paths), on_error="return")
        return {
            name: bytes(start) if isinstance(start, bytes) else b"" for name, start in zip(in_order, found, strict=True)
        }

    def fetch(self, files: Mapping[str, int | None], folder: Path) -> None:
        """Copy files into a local folder, under their names.

        Parameters
        ----------
        files : mapping of str to int
            Names and sizes; see `files`. A file that has another size, because it has changed or was cut off on its
            way, is not accepted.
        folder : Path

        Raises
        ------
        OSError
            FileNotFoundError, if one of them is not there.
        """
        names = list(files)
        for start in range(0, len(names), _AT_ONCE):
            self._fetch({name: files[name] for name in names[start : start + _AT_ONCE]}, folder)

    def _fetch(self, files: Mapping[str, int | None], folder: Path) -> None:
        for name in files:
            if not is_file_name(name):
                raise OSError(errno.EILSEQ, "has a name that is not valid for a file; rename it", self.at(name))
        targets = {name: folder / name for name in files}
        for target in targets.values():
            target.parent.mkdir(parents=True, exist_ok=True)

        def get(system: Any, _: str) -> None:
            system.get([self._path(system, name) for name in targets], [str(path) for path in targets.values()])
            for name, size in files.items():
                found = targets[name].stat().st_size
                if size is not None and found != size:
                    raise OSError(errno.EIO, f"has {found} bytes instead of {size}; it may be being written")

        self._patiently(next(iter(targets)) if len(targets) == 1 else "", get)

    def put(self, source: Path, name: str) -> None:
        """Copy a local file to a name, in place of what is there, and return when the store has all of it.

        Raises
        ------
        OSError
            The file cannot be written, or has another size there.
        """
        size = source.stat().st_size

        def put(system: Any, path: str) -> None:
            make_parent(system, path, self._path(system))
            system.put_file(str(source), path)
            system.invalidate_cache()
            found = system.info(path)["size"]
            if found != size:
                raise OSError(errno.EIO, f"has {found} bytes after the upload, expected {size}")

        self._patiently(name, put)

    def write(self, name: str, content: bytes, *, is_new: bool = False) -> None:
        """Write a small file.

        Parameters
        ----------
        name : str
        content : bytes
        is_new : bool
            Refuse to replace a file, as far as the store can tell.

        Raises
        ------
        OSError
            FileExistsError, if there is one and `is_new`.
        """

        def pipe(system: Any, path: str) -> None:
            make_parent(system, path, self._path(system))
            if not is_new:
                system.pipe_file(path, content)
                return
            try:
                system.pipe_file(path, content, mode="create")
            except OSError as error:
                if error.errno != errno.ENOSYS:  # a store that does not know conditions
                    raise
                system.pipe_file(path, content)

        self._patiently(name, pipe)

    def remove(self, names: Iterable[str]) -> None:
        """Remove files; those that are not there are passed over.

        Raises
        ------
        OSError
            A file cannot be removed.
        """
        for name in names:
            with self._asking(name) as (system, path), suppress(FileNotFoundError):
                system.rm_file(path)

    def _patiently(self, name: str, act: Callable[[Any, str], _T]) -> _T:
        """Do something that can be done twice, and once more if it fails for a reason that may pass."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with self._asking(name) as (system, path):
                    return act(system, path)
            except OSError as error:
                if error.errno not in _PASSING or attempt == _ATTEMPTS:
                    raise
            time.sleep(_PAUSE_S)
        raise AssertionError("the last attempt returns or raises")

    @contextmanager
    def _asking(self, name: str) -> Iterator[tuple[Any, str]]:
        """Connect, and turn whatever goes wrong into an error with a number and a sentence."""
        system: Any = None
        try:
            system = connect(self.url)
            yield system, self._path(system, name)
        except NucleiError:
            raise
        except NotImplementedError as error:
            raise InputsError(f"{self.at(name)}: fsspec does not support this for such a URL; use another") from error
        except Exception as error:  # each store has errors of its own
            raise with_number(error, self.at(name), system) from error

    def _path(self, system: Any, name: str = "") -> str:
        return str(system._strip_protocol(self.at(name)))
