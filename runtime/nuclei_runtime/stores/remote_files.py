"""The files of one image in a store."""

from __future__ import annotations

import errno
import shutil
from dataclasses import dataclass
from pathlib import Path

from nuclei_runtime.stores.listed import Listed, version_of
from nuclei_runtime.stores.remote import RemoteFolder


@dataclass(frozen=True)
class RemoteFiles:
    """Files and folders below a remote folder that make up one image. It can be pickled.

    Attributes
    ----------
    folder : RemoteFolder
    sizes : tuple of (str, int)
        The name of each relative to the folder, and its size in bytes; that of a folder ends with ``/``.
    described : str
        What an index says of them; empty without one. It may be corrected while the files stay.
    version : str, optional
        See `version_of`: when they were listed.
    """

    folder: RemoteFolder
    sizes: tuple[tuple[str, int | None], ...]
    described: str = ""
    version: str | None = None

    def is_there(self) -> bool:
        """Whether this machine finds them in the store.

        Raises
        ------
        OSError
            The store cannot be asked.
        """
        return all(bool(self.folder.files(name.rstrip("/"))) for name, _ in self.sizes[:1])

    def has_changed(self) -> bool:
        """Whether the store tells another version than when it was listed, or none.

        Raises
        ------
        OSError
            The store cannot be asked.
        """
        found: dict[str, Listed] = {}
        for name, _ in self.sizes:
            found |= self.folder.listing(name.rstrip("/")) if name.endswith("/") else {name: self.folder.listed(name)}
        return self.version is None or self.version != version_of(found, self.described)

    def fetch(self, target: Path) -> None:
        """Copy them into a local folder, under their names.

        Raises
        ------
        OSError
            One of them cannot be read, or there is no space for them.
        """
        files: dict[str, int | None] = {}
        for name, size in self.sizes:
            files |= self.folder.files(name.rstrip("/")) if name.endswith("/") else {name: size}
        needed, free = sum(size or 0 for size in files.values()), shutil.disk_usage(target).free
        if needed > free:
            raise OSError(
                errno.EFBIG,
                f"takes {needed / 2**30:.2f} GiB of disk while it is segmented, and {free / 2**30:.2f} GiB are free in "
                f"{target.parent}; choose another folder in TMPDIR",
            )
        self.folder.fetch(files, target)
