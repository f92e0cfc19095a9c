"""What is known of the images of a results folder beyond the images themselves: their conditions and wells."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nuclei_runtime.results.conditions import CONDITION, WELL, Conditions
from nuclei_runtime.results.layout import IMAGES_TABLE, NUCLEI_TABLE
from nuclei_runtime.results.read_tables import (
    PlaneKey,
    Row,
    keys_under,
    open_table,
    plane_key,
    read_images,
    unescaped,
)
from nuclei_runtime.results.wells import Well, find_wells
from nuclei_runtime.writers.csv_cells import csv_cell


@dataclass(frozen=True)
class Experiment:
    """The images of a results folder, and what is known of them.

    Attributes
    ----------
    images : sequence of Row
        Of ``images.csv``, with the wells that the conditions give.
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
        return Experiment(images, list(map(_condition_of, images)), find_wells(images))
    images = conditions.with_wells(images)
    wells = find_wells(images)
    found, notes = conditions.assign(images, wells)
    return Experiment(images, found, wells, tuple(notes))


def _condition_of(row: Row) -> str:
    return unescaped(row.get(CONDITION, ""))


def write_conditions(folder: Path, experiment: Experiment) -> None:
    """Give ``images.csv`` and ``nuclei.csv`` of a folder the column ``condition``, after that of the images' names.

    The column ``well``, if there is one, gets the wells that are given with the conditions. Nothing changes if no image
    has a condition.
    """
    if not any(experiment.conditions):
        return
    known = {
        plane_key(row): (str(csv_cell(condition)), str(csv_cell(row.get(WELL, ""))))
        for row, condition in zip(experiment.images, experiment.conditions, strict=True)
    }
    for name in (IMAGES_TABLE, NUCLEI_TABLE):
        _insert(folder / name, known)


def _insert(path: Path, known: Mapping[PlaneKey, tuple[str, str]]) -> None:
    """Insert the condition of each plane after the first column, and fill the column ``well``."""
    wider = path.with_suffix(".wider")
    with open_table(path) as (header, rows), wider.open("w", encoding="utf-8", newline="") as file:
        key_of = keys_under(header)
        place = header.index(WELL) if WELL in header else None
        written = csv.writer(file)
        written.writerow([header[0], CONDITION, *header[1:]])
        for row in rows:
            condition, well = known[key_of(row)]
            if place is not None:
                row[place] = well
            written.writerow([row[0], condition, *row[1:]])
    wider.replace(path)
