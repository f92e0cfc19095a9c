"""The wells of plates: from the names that tables give them, or, where these give none, from the names of files."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from string import ascii_uppercase

from nuclei_runtime.readers.plates.field import field_label
from nuclei_runtime.results.read_tables import Row, image_name, unescaped

MAX_ROWS, MAX_COLUMNS = 32, 48
"""Of a plate with 1536 wells (ANSI SLAS 4-2004)."""

_NAMED = re.compile(r"([A-Z]|A[A-F])[-_/ ]?0*([1-9]\d?)")
_IN_NAME = re.compile(r"(?<![A-Za-z0-9])([A-P])(0[1-9]|1\d|2[0-4])(?![0-9])")
"""A01 to P24, the wells of a plate with 384, with two digits: A1 and C2 in a name are more often something else."""
_ROW_AND_COLUMN = re.compile(r"(?<![A-Za-z0-9])[rR](\d\d)[cC](\d\d)(?=[fF]\d\d|(?![0-9A-Za-z]))")


@dataclass(frozen=True, order=True)
class Well:
    """A place on a plate.

    Attributes
    ----------
    plate : str
        The plate whose field an image is, the file that holds the plate, or the folder of its images; empty for the
        folder that was segmented.
    row, column : int
        From 0.
    """

    plate: str
    row: int
    column: int

    @property
    def name(self) -> str:
        """The name in the way of most makers: A01 is the upper left one, AF48 the last of 1536."""
        first, second = divmod(self.row, len(ascii_uppercase))
        return f"{'A' * first}{ascii_uppercase[second]}{self.column + 1:02d}"


def parse_well(text: str) -> tuple[int, int] | None:
    """Return the row and column, from 0, of a well called A1, A01, A/1 or A-1; None for any other name."""
    match = _NAMED.fullmatch(text.strip().upper())
    if match is None:
        return None
    letters, column = match[1], int(match[2]) - 1
    row = ascii_uppercase.index(letters[-1]) + (len(letters) - 1) * len(ascii_uppercase)
    return (row, column) if column < MAX_COLUMNS else None


def find_wells(images: Sequence[Row]) -> list[Well | None]:
    """Return the well of each row of ``images.csv``, None if it is not known.

    The column ``well`` comes first. A folder without any is taken for a plate only if the names of all its images hold
    exactly one well each, in the same way, and these lie in at least two rows and two columns. The ways are ``r01c01``,
    with or without a field, and A01 to P24 set apart from other letters and digits. What the names begin with must not
    look like the names of several plates.
    """
    wells: list[Well | None] = [None] * len(images)
    unnamed: dict[str, list[int]] = defaultdict(list)
    in_one_file: dict[str, set[str]] = defaultdict(set)
    for row in images:
        in_one_file[row["image"]].add(row.get("well", ""))
    for index, row in enumerate(images):
        name = row["image"]
        parent = str(PurePosixPath(image_name(row)).parent)
        folder = "" if parent == "." else parent
        if row.get("well"):
            place = parse_well(row["well"])
            plate = name if len(in_one_file[name]) > 1 else plate_of_field(row) or folder
            wells[index] = None if place is None else Well(plate, *place)
        else:
            unnamed[folder].append(index)
    for folder, members in unnamed.items():
        names = [PurePosixPath(image_name(images[index])).name for index in members]
        for index, place in zip(members, _places(names), strict=False):
            wells[index] = Well(folder, *place)
    return wells


def plate_of_field(row: Row) -> str | None:
    """Return the name of the plate whose field a row of ``images.csv`` is about; None for another image."""
    if not row.get("field"):
        return None
    name = image_name(row)
    plate = name.removesuffix(f"_{field_label(row['well'], unescaped(row['field']))}")
    return None if plate == name else plate


def _places(names: Sequence[str]) -> list[tuple[int, int]]:
    """Return the places that the names of a folder's files say; none at all if there is any doubt."""
    for pattern in (_ROW_AND_COLUMN, _IN_NAME):
        found = [pattern.findall(name) for name in names]
        if all(len(marks) == 1 for marks in found):
            places = [_place(*marks[0]) for marks in found]
            is_plate = all(len(set(along)) > 1 for along in zip(*places, strict=True)) and all(
                map(_is_on_plate, places)
            )
            beginnings = [pattern.split(name)[0] for name in names]
            if is_plate and not _is_crossed(zip(beginnings, places, strict=True)):
                return places
    return []


def _is_crossed(pairs: Iterable[tuple[str, tuple[int, int]]]) -> bool:
    """Whether a beginning has several wells, and a well several beginnings: then these may be plates, or fields."""
    return all(max(Counter(ones).values()) > 1 for ones in zip(*set(pairs), strict=True))


def _place(row: str, column: str) -> tuple[int, int]:
    return (int(row) - 1 if row.isdigit() else ascii_uppercase.index(row)), int(column) - 1


def _is_on_plate(place: tuple[int, int]) -> bool:
    row, column = place
    return 0 <= row < MAX_ROWS and 0 <= column < MAX_COLUMNS
