"""Decides which channel of a file is segmented, or which three are the colours of one picture; refuses to guess."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from nuclei_runtime.arrays import COLOURS
from nuclei_runtime.errors import ImageError, ImageShapeError
from nuclei_runtime.readers.plane import ALL_CHANNELS, ALL_COLOURS

SAMPLES = (*COLOURS, "alpha")


class UndecidedError(ImageShapeError):
    """The file holds several images, and nothing says which to take.

    Parameters
    ----------
    found : str
        What the file holds.
    choice : str
        With which options to choose. A reader that has none of them says something else: see
        `nuclei_runtime.readers.opening.read_image`.
    """

    def __init__(self, found: str, choice: str) -> None:
        super().__init__(found, choice)
        self.found, self.choice = found, choice

    def __str__(self) -> str:
        return f"the file holds {self.found}; {self.choice}"


@dataclass(frozen=True)
class Chosen:
    """What is read.

    Attributes
    ----------
    indices : sequence of int
        Of the channels: one, or three that become colours.
    sample : int, optional
        The only sample of a colour that is read.
    n_values : int
        Values per pixel that result.
    name : str, optional
        See `nuclei_runtime.readers.plane.Plane`.
    """

    indices: Sequence[int]
    sample: int | None = None
    n_values: int = 1
    name: str | None = None


@dataclass(frozen=True)
class Channels:
    """The channels of a file.

    Attributes
    ----------
    n : int
    n_samples : int
        Values per pixel of each: 3 or 4 if it is a colour image.
    names : tuple of str
        One per channel, or none.
    are_colours : bool
        Whether the user named them as the samples of a colour.
    dtype : dtype
    found : str
        A description of the file for messages.
    """

    n: int
    n_samples: int
    names: tuple[str, ...]
    are_colours: bool
    dtype: DTypeLike
    found: str

    def choose(self, asked: str | int | None) -> Chosen:
        """Return what is read.

        Parameters
        ----------
        asked : str or int, optional
            See `nuclei_runtime.readers.plane.Selection`.

        Raises
        ------
        UndecidedError
            There are several channels, and nothing says which.
        ImageShapeError
            There is no such channel, or the channels are not the colours of a picture.
        """
        if self.n > 1:
            return self._of_several(asked)
        if self.n_samples > 1:
            if asked is None or _folded(asked) == ALL_COLOURS or _index(asked) is not None:
                return Chosen([0], None, self.n_samples, ALL_COLOURS)  # an index means a channel, and it has none
            sample = self._find(asked, SAMPLES[: self.n_samples])
            return Chosen([0], sample, name=SAMPLES[sample])
        return Chosen(
            [0 if asked is None else self._find(asked, self.names)], name=self.names[0] if self.names else None
        )

    def measured(self, asked: Sequence[str]) -> tuple[dict[str, Chosen], dict[str, ImageError]]:
        """Return the channels whose intensities are measured.

        Parameters
        ----------
        asked : sequence of str
            See `nuclei_runtime.readers.plane.Selection`.

        Returns
        -------
        found : dict
            By a name that no other has.
        absent : dict
            For each that was asked for and is not there, why.
        """
        names = self._own_names()
        places: dict[int, None] = {}
        absent: dict[str, ImageError] = {}
        if list(asked) == [ALL_CHANNELS] and ALL_CHANNELS not in names:
            places = dict.fromkeys(range(len(names)))
        else:
            for one in asked:
                try:
                    places[self._find(one, names)] = None
                except ImageShapeError as error:
                    absent[one] = error
        if self.n == 1 and self.n_samples > 1:
            return {names[place]: Chosen([0], place) for place in places}, absent
        return {names[place]: Chosen([place], None, self.n_samples) for place in places}, absent

    def _own_names(self) -> list[str]:
        """Return a name for each channel, or for each colour of a colour image. Equal names get their index."""
        if self.n == 1 and self.n_samples > 1:
            return list(SAMPLES[: min(self.n_samples, len(COLOURS))])
        names = self.names or (COLOURS if self.are_colours and self.n == len(COLOURS) else ("",) * self.n)
        # Names become those of columns, on one line.
        plain = ["".join(c if c.isprintable() else " " for c in name).strip() for name in names]
        return told_apart(plain)

    def _of_several(self, asked: str | int | None) -> Chosen:
        names = [name.casefold() for name in self.names]
        are_named = sorted(names) == sorted(COLOURS)
        # A colour camera gives 8 bits. More may be three filters that are called by their colours.
        are_named_alone = asked is None and are_named and np.dtype(self.dtype) == np.uint8
        if self.are_colours or are_named_alone or (_folded(asked) == ALL_COLOURS and ALL_COLOURS not in names):
            if self.n != len(COLOURS) or self.n_samples > 1:
                raise ImageShapeError(
                    f"the channels of the file ({self.found}) cannot be the colours of one picture: expected "
                    f"{len(COLOURS)} channels with one value per pixel"
                )
            in_order = [names.index(colour) for colour in COLOURS] if are_named else [*range(self.n)]
            if self.are_colours and _folded(asked) in COLOURS:
                sample = COLOURS.index(str(_folded(asked)))
                return Chosen([in_order[sample]], name=COLOURS[sample])
            return Chosen(in_order, None, self.n, ALL_COLOURS)
        index = self._find(asked, self.names)
        return Chosen([index], None, self.n_samples, self.names[index] if self.names else str(index))

    def _find(self, asked: str | int | None, names: Sequence[str]) -> int:
        """Return the index of the name or index; a name takes precedence, even one that is a number."""
        n = len(names) or self.n
        numbered = "0" if n == 1 else f"0 to {n - 1}"
        listed = ", ".join(str(i) if name == str(i) else f"{i} {name}" for i, name in enumerate(names)) or numbered
        if asked is None:
            together = f"; or {ALL_COLOURS}, if they are the colours of one picture" if n == len(COLOURS) else ""
            raise UndecidedError(
                f"a stack of {n} channels ({self.found})", f"choose one with --channel: {listed}{together}"
            )
        if isinstance(asked, str):
            for spelled in (list(names), [name.casefold() for name in names]):
                matches = [i for i, name in enumerate(spelled) if name in (asked, asked.casefold())]
                if len(matches) == 1:
                    return matches[0]
                if matches:
                    raise ImageShapeError(f"{len(matches)} channels are called {asked}; choose by index: {listed}")
        index = _index(asked)
        if index is not None and 0 <= index < n:
            return index
        if not names and index is None:
            listed += ", without names; choose one by its index, in a run of its own if other files need the name"
        raise ImageShapeError(f"the file has no channel {asked} ({self.found}); its channels: {listed}")


def _folded(asked: str | int | None) -> str | None:
    return asked.casefold() if isinstance(asked, str) else None


def _index(asked: str | int) -> int | None:
    """Return the index that a number or its digits stand for; None if it is a name."""
    is_index = isinstance(asked, int) or (asked.isascii() and asked.isdigit() and len(asked) < 10)
    return int(asked) if is_index else None


def told_apart(names: Sequence[str]) -> list[str]:
    """Return names of which no two are equal: without a name, the index stands for it; equal names get their index."""
    apart = [name or str(i) for i, name in enumerate(names)]
    while len(set(apart)) < len(apart):  # with its index, a name may be another's
        n_called = Counter(apart)
        apart = [f"{name} {i}" if names[i] and n_called[name] > 1 else name for i, name in enumerate(apart)]
    return apart
