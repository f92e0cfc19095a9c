"""A field of a plate: one input of a run. What the formats of plates have in common, and the choice of wells."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from nuclei_runtime.errors import ImageReadError, InputsError
from nuclei_runtime.readers.scenes import Contents
from nuclei_runtime.wording import listed

OpenFile = Callable[[Path, ExitStack], Contents]
"""Opens one file of a plate, or a folder that is one image; it is closed with the stack."""

MAX_FIELDS = 100_000
"""More than 1536 wells of 64 fields: an index that names more is damaged or hostile."""


def field_label(well: str, name: str) -> str:
    """Return what names of results call a field: ``B02_f01``."""
    return f"{well}_f{name.zfill(2)}"


@dataclass(frozen=True)
class Field(ABC):
    """One field of view of a plate, with all its channels, times and depths. It can be pickled.

    Attributes
    ----------
    plate : Path
        The folder.
    well : str
        Such as ``B02``.
    name : str
        What the index calls the field, such as ``1``.
    """

    plate: Path
    well: str
    name: str

    @property
    def label(self) -> str:
        """What names of results call it: ``B02_f01``."""
        return field_label(self.well, self.name)

    @property
    @abstractmethod
    def paths(self) -> Sequence[Path]:
        """Its files and folders, in a fixed order; some may be missing."""

    @property
    @abstractmethod
    def described(self) -> str:
        """What the index says of it, as a text that changes with it."""

    @abstractmethod
    def open(self, open_file: OpenFile, resources: ExitStack) -> Contents:
        """Return its contents.

        Raises
        ------
        ImageReadError, ImageShapeError
            See `nuclei_runtime.readers.opening.read_image`.
        """


@dataclass(frozen=True)
class PlateChoice:
    """Which fields of plates are segmented. Each is chosen by name; None means all.

    Attributes
    ----------
    wells : tuple of str, optional
        Names or patterns such as ``B*``, without regard to case and to zeros: ``a1`` is A01.
    fields : tuple of str, optional

    Raises
    ------
    InputsError
        A name is empty.
    """

    wells: tuple[str, ...] | None = None
    fields: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for option, names in (("--well", self.wells), ("--field", self.fields)):
            if names is not None and not all(names):
                raise InputsError(f"{option} {','.join(names)}: expected names separated by commas, such as A01,B02")

    @property
    def is_all(self) -> bool:
        """Whether nothing was chosen."""
        return self.wells is None and self.fields is None

    def of(self, fields: Iterable[Field]) -> list[Field]:
        """Return those of the fields that are chosen."""
        return [
            field
            for field in fields
            if (self.wells is None or any(_is_well(field.well, pattern) for pattern in self.wells))
            and (self.fields is None or any(_is_field(field.name, asked) for asked in self.fields))
        ]

    def check(self, fields: Collection[Field]) -> None:
        """Check that each name is found on a plate.

        Parameters
        ----------
        fields : collection of Field
            All those of all plates.

        Raises
        ------
        InputsError
        """
        if self.is_all:
            return
        if not fields:
            raise InputsError("--well and --field are for plates, and none was found; leave them out")
        for pattern in self.wells or ():
            if not any(_is_well(field.well, pattern) for field in fields):
                raise InputsError(
                    f"the plate has no well {pattern}; found {listed(dict.fromkeys(field.well for field in fields))}"
                )
        for asked in self.fields or ():
            if not any(_is_field(field.name, asked) for field in fields):
                raise InputsError(
                    f"the plate has no field {asked}; found {listed(dict.fromkeys(field.name for field in fields))}"
                )
        if not self.of(fields):
            raise InputsError("no well that --well names has a field that --field names")


ALL_FIELDS = PlateChoice()
"""Every field of every plate."""


def parse_names(text: str | None) -> tuple[str, ...] | None:
    """Read names separated by commas, as ``A01,B*``."""
    return None if text is None else tuple(name.strip() for name in text.split(","))


def well_name(row: int, column: int) -> str:
    """Return the name of a well: ``B02`` for row 2 and column 2, which count from 1; row 27 is AA.

    Raises
    ------
    ImageReadError
        There is no plate with such a well.
    """
    if not (1 <= row <= 702 and 1 <= column <= 999):
        raise ImageReadError(f"the index of the plate names a well in row {row} and column {column}; it may be damaged")
    letters = chr(ord("A") + (row - 1) % 26)
    return (chr(ord("A") + (row - 1) // 26 - 1) if row > 26 else "") + f"{letters}{column:02d}"


def check_number(n_fields: int) -> None:
    """Refuse an index with more fields than a plate has.

    Raises
    ------
    ImageReadError
    """
    if n_fields > MAX_FIELDS:
        raise ImageReadError(f"the index of the plate names {n_fields} fields, expected at most {MAX_FIELDS}")


def _is_well(well: str, pattern: str) -> bool:
    spelled = (well.upper(), re.sub(r"(?<=\D)0+(?=\d)", "", well.upper()))
    return any(fnmatchcase(name, pattern.upper()) for name in spelled)


def _is_field(name: str, asked: str) -> bool:
    return name == asked or (name.isdecimal() and asked.isdecimal() and name.lstrip("0") == asked.lstrip("0"))
