"""Which images of a folder one of several processes does, each on its own, without a word between them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from nuclei_runtime.errors import InputsError


@dataclass(frozen=True)
class Shard:
    """One of several shares of a run.

    The names alone decide, so that an image that appears or vanishes moves no other image to another process.

    Attributes
    ----------
    index : int
        From 1 to `count`.
    count : int
    """

    index: int
    count: int

    def owns(self, token: str) -> bool:
        """Whether the image of this token belongs to the share; see `nuclei_runtime.results.layout.token_of`."""
        return int(token, 16) % self.count == self.index - 1


WHOLE = Shard(1, 1)
"""All images."""


def parse_shard(text: str) -> Shard:
    """Read ``i/n``.

    Raises
    ------
    InputsError
        It is not that, or i does not lie in 1..n.
    """
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text, re.ASCII)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise InputsError(f"--shard {text}: expected i/n with i from 1 to n, such as 3/8")
    return Shard(int(match[1]), int(match[2]))
