"""Divides images among processes that do not communicate."""

from __future__ import annotations

import re
from dataclasses import dataclass

from nuclei_runtime.errors import InputsError


@dataclass(frozen=True)
class Shard:
    """One of several parts of a run.

    The name of an image alone decides its shard, so adding or removing an image moves no other one.

    Attributes
    ----------
    index : int
        From 1 to `count`.
    count : int
    """

    index: int
    count: int

    @property
    def lock_name(self) -> str:
        """Name of the file or object that marks the shard as in use."""
        return f".nuclei-lock-{self.index}-of-{self.count}"

    def owns(self, token: str) -> bool:
        """Whether the image with this token belongs to the shard; see `nuclei_runtime.results.layout.token_of`."""
        return int(token, 16) % self.count == self.index - 1

    @classmethod
    def of_lock(cls, name: str) -> Shard | None:
        """Return the shard with this `lock_name`; None if it is another name."""
        match = re.fullmatch(r"\.nuclei-lock-([0-9]+)-of-([0-9]+)", name)
        return None if match is None else cls(int(match[1]), int(match[2]))


WHOLE = Shard(1, 1)
"""All images."""


def parse_shard(text: str) -> Shard:
    """Read ``i/n``.

    Raises
    ------
    InputsError
        It is something else, or i is not in 1..n.
    """
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text, re.ASCII)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise InputsError(f"--shard {text}: expected i/n with i from 1 to n, such as 3/8")
    return Shard(int(match[1]), int(match[2]))
