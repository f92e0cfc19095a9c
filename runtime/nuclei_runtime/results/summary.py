"""``summary.csv``: counts, density, medians and quartiles, by condition, by folder and by well.

The table of the nuclei is read once, plane by plane. Each of its columns goes to a file of its own, from which the
values of one group after the other are sorted: exact for any number of nuclei, with 16 bytes of memory for each nucleus
of the largest group.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.results.experiment import Experiment
from nuclei_runtime.results.read_tables import PlaneKey, Row, image_name, nuclei_columns, plane_key, read_nuclei
from nuclei_runtime.steps.columns import Column, describe_column
from nuclei_runtime.writers.csv_cells import Cell, csv_cell

QUARTILES = {"q25": 25, "median": 50, "q75": 75}
"""In percent, interpolated between the two nearest values, as in NumPy and in R's `quantile`."""

_MEASURED = ("area_um2", "area_px", "cell_area_um2", "cell_area_px")
_INTENSITY = ("intensity_mean", "cell_intensity_mean", "ring_intensity_mean")
_RING, _CELL = "ring_", "cell_"

_FIRST_COLUMNS = (
    Column("by", "", "what the group is: condition, folder or well", kind=str),
    Column("group", "", "name of the group", kind=str),
    Column("n_images", "", "image files of which at least one plane was segmented", kind=int),
    Column("n_failed", "", "image files of which at least one plane failed", kind=int),
    Column("n_nuclei", "", "number of nuclei", kind=int),
    Column("nuclei_per_megapixel", "1 / million px", "density"),
    Column("nuclei_per_mm2", "1 / mm2", "density; empty unless the pixel size of all images is known"),
)
FIRST_COLUMNS = tuple(column.name for column in _FIRST_COLUMNS)

_QUARTILE_NAMES = {"q25": "lower quartile", "median": "median", "q75": "upper quartile"}


@dataclass
class _Group:
    """What is counted for a group of planes."""

    images: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    n_nuclei: int = 0
    area_px: float = 0.0
    area_mm2: float = 0.0
    has_sizes: bool = True


def write_summary(out: Path, experiment: Experiment, path: Path) -> None:
    """Write the summary of a results folder.

    Parameters
    ----------
    out : Path
        The folder that holds ``nuclei.csv``.
    experiment : Experiment
    path : Path
        The new file.

    Raises
    ------
    InputsError
        ``nuclei.csv`` is missing or damaged.
    """
    columns = [name for name in nuclei_columns(out) if name in _MEASURED or name.partition(":")[0] in _INTENSITY]
    groups = _groups(experiment)
    with TemporaryDirectory(dir=path.parent) as work, path.open("w", encoding="utf-8", newline="") as file:
        spooled = _Spooled(Path(work), columns)
        spooled.fill(read_nuclei(out, columns))
        rows = csv.writer(file)
        rows.writerow([*FIRST_COLUMNS, *(f"{column}_{name}" for column in columns for name in QUARTILES)])
        for (by, group), members in groups.items():
            counts = _count(members)
            keys = {plane_key(row) for row in members}
            first: list[Cell] = [
                by,
                csv_cell(group),
                len(counts.images),
                len(counts.failed),
                counts.n_nuclei,
                _ratio(counts.n_nuclei, counts.area_px / 1e6),
                _ratio(counts.n_nuclei, counts.area_mm2) if counts.has_sizes else None,
            ]
            quartiles = [value for column in columns for value in spooled.quartiles(column, keys)]
            rows.writerow(map(csv_cell, [*first, *quartiles]))


def describe_summary_column(name: str) -> Column | None:
    """Return what a column of ``summary.csv`` means; None if this version does not know it."""
    measured, _, quartile = name.rpartition("_")
    column = describe_column(measured)
    if quartile in QUARTILES and column is not None:
        meaning = f"{_QUARTILE_NAMES[quartile]} of {measured} over the nuclei of the group"
        return Column(name, column.unit, meaning)
    return next((column for column in _FIRST_COLUMNS if column.name == name), None)


def folder_of(row: Row) -> str:
    """Return the folder of an image, ``.`` for the one that was segmented."""
    return str(PurePosixPath(image_name(row)).parent)


def _groups(experiment: Experiment) -> dict[tuple[str, str], list[Row]]:
    """Return the rows of each group, by what it is a group of and its name: conditions, then folders, then wells."""
    named: dict[str, dict[str, list[Row]]] = {"condition": {}, "folder": {}, "well": {}}
    several_plates = len({well.plate for well in experiment.wells if well is not None}) > 1
    for row, condition, well in zip(experiment.images, experiment.conditions, experiment.wells, strict=True):
        if condition:
            named["condition"].setdefault(condition, []).append(row)
        named["folder"].setdefault(folder_of(row), []).append(row)
        if well is not None:
            name = f"{well.plate or '.'}/{well.name}" if several_plates else well.name
            named["well"].setdefault(name, []).append(row)
    return {(by, name): groups[name] for by, groups in named.items() for name in sorted(groups)}


def _count(rows: Iterable[Row]) -> _Group:
    group = _Group()
    for row in rows:
        if row["status"] != "ok":
            group.failed.add(row["image"])
            continue
        group.images.add(row["image"])
        group.n_nuclei += int(row.get("n_nuclei") or 0)
        area = float(row.get("height") or 0) * float(row.get("width") or 0)
        group.area_px += area
        sizes = row.get("pixel_height_um"), row.get("pixel_width_um")
        group.has_sizes = group.has_sizes and all(sizes)
        group.area_mm2 += area * float(sizes[0] or 0) * float(sizes[1] or 0) / 1e6
    return group


def _ratio(n: int, area: float) -> float | None:
    return round(n / area, 3) if area > 0 else None


class _Spooled:
    """The columns of the table of the nuclei, each in a file, and where in them the nuclei of a plane are."""

    def __init__(self, folder: Path, columns: Sequence[str]) -> None:
        self._paths = {column: folder / f"{index}.f64" for index, column in enumerate(columns)}
        self._places: dict[PlaneKey, list[tuple[int, int]]] = {}

    def fill(self, planes: Iterable[tuple[PlaneKey, NDArray[np.float64]]]) -> None:
        n = 0
        with ExitStack() as opened:
            files = [opened.enter_context(path.open("wb")) for path in self._paths.values()]
            for key, values in planes:
                self._places.setdefault(key, []).append((n, len(values)))
                n += len(values)
                for file, column in zip(files, values.T, strict=True):
                    file.write(np.ascontiguousarray(column).tobytes())

    def quartiles(self, column: str, keys: Iterable[PlaneKey]) -> Iterator[float | None]:
        """Yield the quartiles of some planes' nuclei; None unless each nucleus has a value, or if there are none.

        Neighbours may leave a nucleus no ring: then its cell must have a value, and the others have the quartiles.
        """
        places = [place for key in keys for place in self._places.get(key, ())]
        values = self._values(column, places)
        is_missing = np.isnan(values)
        is_known = not is_missing.any()
        if not is_known and column.startswith(_RING):
            cell = _CELL + column.removeprefix(_RING)
            is_known = cell in self._paths and not np.isnan(self._values(cell, places)).any()
            values = values[~is_missing]
        if is_known and values.size:
            yield from map(float, np.percentile(values, list(QUARTILES.values()), overwrite_input=True))
        else:
            yield from [None] * len(QUARTILES)

    def _values(self, column: str, places: Sequence[tuple[int, int]]) -> NDArray[np.float64]:
        """Return the values of the nuclei at some places, each the number of the first one and how many there are."""
        values = np.empty(sum(n for _, n in places))
        end = 0
        with self._paths[column].open("rb") as file:
            for start, n in places:
                file.seek(start * values.itemsize)
                values[end : end + n] = np.fromfile(file, np.float64, n)
                end += n
        return values
