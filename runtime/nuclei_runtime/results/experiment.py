"""What is known of the images of a results folder beyond the images themselves: their conditions and wells."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nuclei_runtime.errors import InputsError
from nuclei_runtime.results.conditions import CONDITION, IMAGE, WELL, Conditions
from nuclei_runtime.results.layout import IMAGES_TABLE, NUCLEI_TABLE
from nuclei_runtime.results.read_tables import (
    PlaneKey,
    Row,
    image_name,
    keys_under,
    open_table,
    plane_key,
    read_images,
)
from nuclei_runtime.results.wells import Well, find_wells
from nuclei_runtime.writers.csv_cells import csv_cell


@dataclass(frozen=True)
class Experiment:
    """The images of a results folder, and what is known of them.

    Attributes
    ----------
    images : sequence of Row
        Of ``images.csv``.
    conditions : sequence of str
        Of these rows, empty where there is none.
    wells : sequence of Well or None
        Of these rows.
    notes : tuple of str
        What the user should know of the conditions.
    """

    images: Sequence[Row]
    conditions: Sequence[str]
    wells: Sequence[Well | None]
    notes: tuple[str, ...] = ()


def read_experiment(out: Path, conditions: Conditions | None = None) -> Experiment:
    """Read the images of a results folder.

    Parameters
    ----------
    out : Path
        A folder with ``images.csv``.
    conditions : Conditions, optional
        By default those in the table, if it has any.

    Raises
    ------
    InputsError
        There is no such table, or it is damaged.
    """
    images = read_images(out)
    if conditions is None:
        return Experiment(images, [row.get(CONDITION, "") for row in images], find_wells(images))
    wells = find_wells(conditions.with_wells(images))
    found, notes = conditions.assign(images, wells)
    return Experiment(images, found, wells, tuple(notes))


def conditions_of_table(out: Path) -> Conditions | None:
    """Return the conditions that an earlier run wrote into ``images.csv``; None if there are none."""
    try:
        rows = read_images(out)
    except InputsError:
        return None
    of: dict[str | tuple[int, int], str] = {image_name(row): cell for row in rows if (cell := row.get(CONDITION, ""))}
    wells = {image_name(row): row[WELL] for row in rows if row.get(WELL)}
    return Conditions(str(out / IMAGES_TABLE), IMAGE, of, wells) if of else None


def write_conditions(folder: Path, experiment: Experiment) -> None:
    """Give ``images.csv`` and ``nuclei.csv`` of a folder the column ``condition``, after that of the images' names.

    Nothing changes if no image has a condition.
    """
    if not any(experiment.conditions):
        return
    of = {
        plane_key(row): str(csv_cell(condition))
        for row, condition in zip(experiment.images, experiment.conditions, strict=True)
    }
    for name in (IMAGES_TABLE, NUCLEI_TABLE):
        _insert(folder / name, CONDITION, of.__getitem__)


def _insert(path: Path, column: str, cell_of: Callable[[PlaneKey], str]) -> None:
    """Insert a column after the first, with a cell for each plane."""
    wider = path.with_suffix(".wider")
    with open_table(path) as (header, rows), wider.open("w", encoding="utf-8", newline="") as file:
        key_of = keys_under(header)
        written = csv.writer(file)
        written.writerow([header[0], column, *header[1:]])
        for row in rows:
            written.writerow([row[0], cell_of(key_of(row)), *row[1:]])
    wider.replace(path)
