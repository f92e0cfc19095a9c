"""Small matters of English in what is said to the user."""

from __future__ import annotations


def counted(n: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun: ``1 image``, ``2 images``; `plural` is for nouns that take no s."""
    return f"{n} {noun if n == 1 else plural or noun + 's'}"
