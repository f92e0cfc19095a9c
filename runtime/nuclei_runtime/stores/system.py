"""The file systems of fsspec."""

from __future__ import annotations

from typing import Any

from nuclei_runtime.errors import InputsError, MissingExtraError, RuntimeEnvironmentError

STORES_EXTRA = "stores"

_S3_PACKAGE = ("s3fs", "s3")

_OBJECT_STORES = frozenset(("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "memory", "http", "https"))
"""Protocols without folders that would have to be made."""


def connect(url: str) -> Any:
    """Return the file system of fsspec for a URL, which fsspec keeps for the next call.

    Raises
    ------
    InputsError
        fsspec knows no such URLs.
    MissingExtraError, RuntimeEnvironmentError
        fsspec is not installed, or the package for this kind of store.
    """
    try:
        from fsspec.core import url_to_fs
    except ModuleNotFoundError as error:
        raise MissingExtraError("fsspec", STORES_EXTRA) from error
    scheme = url.partition(":")[0]
    try:
        return url_to_fs(url)[0]
    except ImportError as error:
        if scheme in ("s3", "s3a"):
            raise MissingExtraError(*_S3_PACKAGE) from error
        raise RuntimeEnvironmentError(f"{url}: {error}") from error
    except ValueError as error:
        raise InputsError(f"{url}: fsspec cannot open it: {error}") from error


def make_parent(system: Any, path: str, root: str) -> None:
    """Make the folder of a file, where the store has folders; never a bucket."""
    protocols = (system.protocol,) if isinstance(system.protocol, str) else system.protocol
    if not _OBJECT_STORES.intersection(protocols):
        system.makedirs(path.rpartition("/")[0] or root, exist_ok=True)
