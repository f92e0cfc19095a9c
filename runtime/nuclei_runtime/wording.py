"""Small matters of English in what is said to the user."""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice

_MOST_LISTED = 10


def counted(n: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun: ``1 image``, ``2 images``; `plural` is for nouns that take no s."""
    return f"{n} {noun if n == 1 else plural or noun + 's'}"


def listed(names: Collection[object]) -> str:
    """Return the first names and how many more there are: ``a, b, c and 3 more``."""
    n_more = len(names) - _MOST_LISTED
    return ", ".join(map(str, islice(names, _MOST_LISTED))) + (f" and {n_more} more" if n_more > 0 else "")
