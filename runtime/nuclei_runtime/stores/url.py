"""What counts as a URL, and which URLs are refused."""

from __future__ import annotations

import os
import re

from nuclei_runtime.errors import InputsError

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.:\-]+)://(.*)", re.DOTALL)
"""Two letters at least before the colon: ``C:`` is a drive of Windows."""

_USER_AND_SECRET = re.compile(r"[^/]*:(?!\d+(/|$))")
"""Before the first slash, a colon that no number of a port follows. A secret may hold a slash."""

_NOT_IN_NAMES = frozenset('\\:*?"<>|\0') if os.name == "nt" else frozenset("\0")
_MAX_PART_BYTES = 255
"""The longest name on the common file systems."""


def is_url(text: str | os.PathLike[str]) -> bool:
    """Whether a text names something by URL rather than by path."""
    return isinstance(text, str) and _URL.match(text) is not None


def checked_url(text: str) -> str:
    """Return a URL without slashes at its end.

    Raises
    ------
    InputsError
        It is no URL, or one that may hold a secret or names several stores. The message holds no secret either.
    """
    match = _URL.fullmatch(text)
    if match is None:
        raise InputsError(f"{text}: not a URL such as s3://bucket/folder")
    scheme, rest = match.groups()
    if ":" in scheme or "::" in rest or "://" in rest:
        raise InputsError(f"{scheme}://...: names one store within another; give a single one")
    if _USER_AND_SECRET.match(rest):
        raise InputsError(
            f"{scheme}://...: contains a user name and a secret, which would be written into the results; leave "
            "them out, and give them to fsspec, for example in the environment"
        )
    if "?" in rest:
        raise InputsError(
            f"{scheme}://{rest.partition('?')[0]}: contains a question mark and parameters, which may be secret "
            "and would be written into the results; leave them out, and give them to fsspec, for example in the "
            "environment; in a pattern, use * instead of ?"
        )
    return f"{scheme}://{rest.rstrip('/')}" if rest.strip("/") else f"{scheme}:///"


def is_file_name(name: str) -> bool:
    """Whether a file on this machine can have the name of an object; above all, none leads out of its folder."""
    return "::" not in name and all(
        part not in ("", ".", "..") and not _NOT_IN_NAMES & set(part) and len(part.encode()) <= _MAX_PART_BYTES
        for part in name.split("/")
    )
