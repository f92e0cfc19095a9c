"""What a store tells of files without being asked for them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple


class Listed(NamedTuple):
    """What a store tells of a file, without its content.

    Attributes
    ----------
    size : int, optional
        In bytes.
    version : str, optional
        Its ETag (RFC 9110), another one if the content is another. The time of a change is none, because a file can be
        changed twice within its precision.
    """

    size: int | None
    version: str | None

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> Listed:
        """Return it from what fsspec tells."""
        tag = str(info.get("ETag") or info.get("etag") or "")
        # A weak one stands for all contents that mean the same.
        return cls(info.get("size"), None if not tag or tag.startswith("W/") else tag)


def version_of(files: Mapping[str, Listed], described: str = "") -> str | None:
    """Return the SHA-256 of the names and versions of files; None if the store does not tell the versions of all.

    Parameters
    ----------
    files : mapping of str to Listed
    described : str
        What else says how they are read, such as the index of a plate.
    """
    if not files or any(one.version is None for one in files.values()):
        return None
    listing = "".join(f"{one.version} {name}\0" for name, one in sorted(files.items())) + described
    return hashlib.sha256(listing.encode("utf-8", "surrogatepass")).hexdigest()
