"""The conditions of an experiment: a table of the user's that says which images, or wells, belong together."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from nuclei_runtime.errors import InputsError
from nuclei_runtime.results.layout import CONDITIONS_FILE
from nuclei_runtime.results.read_tables import Row, image_name
from nuclei_runtime.results.wells import Well, parse_well
from nuclei_runtime.wording import counted, listed

CONDITION, WELL, IMAGE, PLATE = "condition", "well", "image", "plate"


@dataclass(frozen=True)
class Conditions:
    """Which condition each image or well belongs to.

    Attributes
    ----------
    source : str
        The file that says so.
    key : str
        What its rows name: ``image`` or ``well``.
    of : dict
        The condition, by the image's name as the table writes it, or by the well, whose plate is empty if it stands
        for the well of every plate.
    wells : dict
        The well of an image, by its name, if the file says that too.
    """

    source: str
    key: str
    of: dict[str | Well, str]
    wells: dict[str, str]

    def name_of(self, row: Row) -> str | None:
        """Return how the file calls an image: by its path, or by its name alone; None if it does not."""
        name = image_name(row)
        return next((known for known in (name, PurePosixPath(name).name) if known in self.of), None)

    def with_wells(self, images: Iterable[Row]) -> list[Row]:
        """Return the rows of ``images.csv`` with the wells that the file gives to images without one."""
        return [row if row.get(WELL) else {**row, WELL: self.wells.get(self.name_of(row) or "", "")} for row in images]

    def assign(self, images: Sequence[Row], wells: Sequence[Well | None]) -> tuple[list[str], list[str]]:
        """Find the condition of each image.

        Parameters
        ----------
        images : sequence of Row
            Of ``images.csv``.
        wells : sequence of Well or None
            Of these.

        Returns
        -------
        conditions : list of str
            One per image, empty if the file has none for it.
        notes : list of str
            A sentence that names the images without a condition, and one for the rows that fit no image.
        """
        keys: list[str | Well | None]
        if self.key == IMAGE:
            keys = [self.name_of(row) for row in images]
        else:
            keys = [None if well is None else self._well_of(well) for well in wells]
        conditions = ["" if key is None else self.of.get(key, "") for key in keys]
        without = list(dict.fromkeys(row[IMAGE] for row, found in zip(images, conditions, strict=True) if not found))
        unused = [
            key if isinstance(key, str) else "/".join(filter(None, (key.plate, key.name)))
            for key in self.of.keys() - {key for key in keys if key}
        ]
        notes = []
        if without:
            notes.append(f"{counted(len(without), 'image')} without a condition in {self.source}: {listed(without)}")
        if unused:
            notes.append(f"{counted(len(unused), 'row')} of {self.source} without an image: {listed(sorted(unused))}")
        return conditions, notes

    def _well_of(self, well: Well) -> Well | None:
        """Return the well as the file has it: of a plate called by its path, or by its name alone, or of all plates."""
        plates = (well.plate, PurePosixPath(well.plate).name, "")
        return next((known for plate in plates if (known := replace(well, plate=plate)) in self.of), None)

    def to_csv(self) -> str:
        """Return a table from which `read_conditions` reads the same."""
        table = io.StringIO()
        rows = csv.writer(table, lineterminator="\n")
        more = WELL if self.key == IMAGE else PLATE
        rows.writerow((self.key, CONDITION, more))
        for key, condition in self.of.items():
            name, of = (key, self.wells.get(key, "")) if isinstance(key, str) else (key.name, key.plate)
            rows.writerow((name, condition, of))
        return table.getvalue()


def kept_conditions(out: Path) -> Conditions | None:
    """Return the conditions that the last run of a results folder was given; None if it was given none.

    Raises
    ------
    InputsError
        They are damaged.
    """
    path = out / CONDITIONS_FILE
    if not path.exists():
        return None
    try:
        return replace(read_conditions(path), source="the conditions of the earlier run")
    except InputsError as error:
        raise InputsError(f"{error}; it held the conditions of the earlier run: give them with --conditions") from error


def read_conditions(path: Path) -> Conditions:
    """Read a CSV table, with commas, semicolons or tabs, whose first row names its columns.

    A column ``image`` or ``well`` says what a row is about. The other column is the condition, whatever it is called;
    if there are several, the one called ``condition``. With ``image``, a column ``well`` gives the well; with
    ``well``, a column ``plate`` beside that of the condition gives the plate.

    Raises
    ------
    InputsError
        The file cannot be read, has other columns, or says two things about the same image or well.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = "is not UTF-8 text; save it as CSV UTF-8" if isinstance(error, ValueError) else error.strerror
        raise InputsError(f"{path}: {reason}") from error
    lines = text.splitlines()
    delimiter = max(",;\t", key=(lines[0] if lines else "").count)
    try:
        header, *rows = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=delimiter)] or [[]]
    except csv.Error as error:
        raise InputsError(f"{path}: cannot be read as a table: {error}; save it as CSV UTF-8") from error
    header = [name.lower() for name in header]
    twice = sorted({name for name in header if name in (IMAGE, WELL, CONDITION, PLATE) and header.count(name) > 1})
    if twice:
        raise InputsError(f"{path}: has two columns called {' and '.join(twice)}; leave one of the two")
    key = next((name for name in (IMAGE, WELL) if name in header), None)
    others = [name for name in header if name not in (IMAGE, WELL)]
    has_plates = key == WELL and PLATE in others and len(others) > 1
    if has_plates:
        others.remove(PLATE)
    value = CONDITION if CONDITION in others else others[0] if len(others) == 1 else None
    if value is None and key == IMAGE and WELL in header and not others:
        value = WELL
    if key is None or value is None:
        raise InputsError(
            f"{path}: found the columns {', '.join(header) or 'none'}; expected a column image or well, and a column "
            "condition"
        )
    of: dict[str | Well, str] = {}
    wells: dict[str, str] = {}
    for number, row in enumerate(rows, 2):
        cells = dict(zip(header, row, strict=False))
        if not cells.get(key):
            continue
        name: str | Well = cells[key].replace("\\", "/")
        if key == WELL:
            place = parse_well(cells[key])
            if place is None:
                raise InputsError(f"{path}: line {number}: found the well {cells[key]!r}, expected one such as A01")
            name = Well(cells.get(PLATE, "").replace("\\", "/") if has_plates else "", *place)
        if of.setdefault(name, cells.get(value, "")) != cells.get(value, ""):
            raise InputsError(
                f"{path}: line {number}: {cells[key]} was {of[name]!r} in an earlier line and is "
                f"{cells.get(value, '')!r} here; leave one of the two"
            )
        if key == IMAGE and isinstance(name, str) and cells.get(WELL):
            wells[name] = cells[WELL]
    return Conditions(str(path), key, of, wells)
