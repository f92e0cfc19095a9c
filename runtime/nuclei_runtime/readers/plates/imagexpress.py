"""Plates of ImageXpress, which MetaXpress writes: an HTD file and a TIFF per plane.

The HTD says which wells, sites, wavelengths, times and Z steps there are; the name of a file follows from these:
``TimePoint_1/ZStep_2/PLATE_B02_s1_w1.TIF``, often with a GUID before the suffix, and without the parts of which there
is only one. ``ZStep_0`` holds MetaXpress's projections. A wavelength that was not taken at every time or depth is
copied to all of them.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from math import prod
from pathlib import Path

from nuclei_runtime.errors import ImageReadError
from nuclei_runtime.readers.plates.field import Field, check_number, well_name
from nuclei_runtime.readers.plates.planes import FieldOfPlanes, Position

_MAX_HTD_BYTES = 1 << 20
_MAX_PLANES = 2_000_000
"""Of a whole plate: 1536 wells of 9 fields, 4 channels and 36 times or depths. The names of more would fill memory."""

_FILE = re.compile(
    r"(?:.*_)?(?P<well>[A-Z]{1,2}\d{2})(?:_s(?P<site>\d{1,5}))?(?:_w(?P<wave>\d{1,3}))?"
    r"(?:[0-9A-F]{8}(?:-[0-9A-F]{4}){3}-[0-9A-F]{12})?\.tiff?",
    re.IGNORECASE,
)
_PART_OF_PLATE = re.compile(r"(TimePoint|ZStep)_\d+", re.IGNORECASE)

Key = tuple[str, int, int]
"""Well, site and wavelength of a file."""


def imagexpress_fields(folder: Path) -> Sequence[Field]:
    """Return the fields of a plate.

    Raises
    ------
    ImageReadError
        The HTD is damaged or contradicts the files, or the folder is only a part of a plate.
    """
    indexes = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".htd")
    if len(indexes) != 1:
        raise ImageReadError(f"the folder holds {len(indexes)} HTD files, expected one; give each plate its own folder")
    if _PART_OF_PLATE.fullmatch(folder.name):
        raise ImageReadError(f"the folder {folder.name} is a part of a plate; name the folder above it")
    values = _read_htd(indexes[0])
    wells = [
        well_name(row + 1, column + 1)
        for row in range(_number(values, "YWells", most=702))
        for column, is_on in enumerate(_flags(values, f"WellsSelection{row + 1}"))
        if is_on
    ]
    waves = [
        wave
        for wave in range(1, _number(values, "NWavelengths", most=100) + 1)
        if values.get(f"WaveCollect{wave}", ["1"]) != ["0"]
    ]
    names = tuple(next(iter(values.get(f"WaveName{wave}", ())), "") or f"w{wave}" for wave in waves)
    n_times = _number(values, "TimePoints", most=1_000_000)
    n_steps = _number(values, "ZSteps", most=100_000) if _flags(values, "ZSeries") == [True] else 1
    folders = list(_folders(folder, n_times, n_steps))
    n_depths = len(folders) // n_times
    selected = _selected_sites(values)
    check_number(len(wells) * len(selected))
    if prod((len(wells), len(selected), len(waves), len(folders))) > _MAX_PLANES:
        raise ImageReadError(f"the HTD names more than {_MAX_PLANES} planes; it may be damaged")
    found = [_files(folder, inside) for inside in folders]
    sites = _sites(selected, {site for files in found for _, site, _ in files})

    def planes(well: str, site: int) -> Iterator[tuple[Position, str]]:
        for i, (channel, wave) in product(range(len(folders)), enumerate(waves)):
            time, depth = divmod(i, n_depths)
            name = found[i].get((well, site, wave)) or _expected(indexes[0].stem, values, well, site, wave)
            yield (time, channel, depth), f"{folders[i]}{name}"

    sizes = (None,) * len(names)
    return [
        FieldOfPlanes(folder, well, str(site), dict(planes(well, site)), names, n_times, n_depths, sizes, repeats=True)
        for well, site in product(wells, sites)
    ]


def _read_htd(path: Path) -> dict[str, list[str]]:
    """Return the values by their names: lines such as ``"XWells", 12``."""
    if path.stat().st_size > _MAX_HTD_BYTES:
        raise ImageReadError(f"{path.name} is larger than {_MAX_HTD_BYTES} bytes; it is not the HTD file of a plate")
    lines = path.read_text(encoding="latin-1").replace("\0", "").splitlines()
    try:
        rows = [[value.strip() for value in row] for row in csv.reader(lines, skipinitialspace=True) if row]
    except csv.Error as error:
        raise ImageReadError(f"{path.name} is damaged: {error}") from error
    if not rows or rows[0][0] != "HTSInfoFile":
        raise ImageReadError(f"{path.name} is not an HTD file: it does not begin with HTSInfoFile")
    if ["EndFile"] not in rows:
        raise ImageReadError(f"{path.name} is truncated: it lacks EndFile; copy it again")
    return {row[0]: row[1:] for row in rows}


def _number(values: Mapping[str, Sequence[str]], name: str, *, most: int) -> int:
    text = "".join(values.get(name, ()))
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and 1 <= int(text) <= most):
        raise ImageReadError(f"the HTD says {name} {text or 'nothing'}, expected a number from 1 to {most}")
    return int(text)


def _flags(values: Mapping[str, Sequence[str]], name: str) -> list[bool]:
    found = [value.upper() for value in values.get(name, ())]
    if not found or not set(found) <= {"TRUE", "FALSE"}:
        raise ImageReadError(f"the HTD says {name} {', '.join(found)[:50] or 'nothing'}, expected TRUE or FALSE")
    return [value == "TRUE" for value in found]


def _selected_sites(values: Mapping[str, Sequence[str]]) -> list[bool]:
    """Return whether each site of the grid was taken, row by row."""
    if _flags(values, "Sites") != [True]:
        return [True]
    rows = range(_number(values, "YSites", most=1000))
    chosen = [is_on for row in rows for is_on in _flags(values, f"SiteSelection{row + 1}")]
    if not any(chosen):
        raise ImageReadError("the HTD selects no site")
    return chosen


def _sites(selected: Sequence[bool], found: Iterable[int]) -> list[int]:
    """Return the numbers of the sites: of those taken, or of all in the grid if the files say so."""
    in_order = list(range(1, sum(selected) + 1))
    in_grid = [i for i, is_on in enumerate(selected, start=1) if is_on]
    return in_order if set(found) <= set(in_order) else in_grid


def _folders(plate: Path, n_times: int, n_steps: int) -> Iterator[str]:
    """Yield the folder of each time and depth, relative to the plate, with ``/`` at the end."""
    if n_times == 1 and not any(plate.glob("TimePoint_*")):
        times = [""]
    else:
        times = [f"TimePoint_{time + 1}/" for time in range(n_times)]
    has_steps = n_steps > 1 and any((plate / time / "ZStep_1").is_dir() for time in times)
    has_projections = n_steps > 1 and any((plate / time / "ZStep_0").is_dir() for time in times)
    for time in times:
        if has_steps:  # else only the projections were stored
            yield from (f"{time}ZStep_{step + 1}/" for step in range(n_steps))
        else:
            yield f"{time}ZStep_0/" if has_projections else time


def _files(plate: Path, inside: str) -> dict[Key, str]:
    """Return the images in a folder by what their names say."""
    found: dict[Key, str] = {}
    try:
        names = sorted(entry.name for entry in os.scandir(plate / inside))
    except FileNotFoundError:  # each of its files will be reported as missing
        return found
    for name in names:
        match = _FILE.fullmatch(name)
        if match is None:
            continue
        key = match["well"].upper(), int(match["site"] or 1), int(match["wave"] or 1)
        if key in found:
            raise ImageReadError(f"{inside}{found[key]} and {name} are the same plane; remove one of them")
        found[key] = name
    return found


def _expected(stem: str, values: Mapping[str, Sequence[str]], well: str, site: int, wave: int) -> str:
    """Return what a file that is missing would be called."""
    parts = [stem, well]
    parts += [f"s{site}"] if _flags(values, "Sites") == [True] else []
    parts += [f"w{wave}"] if values.get("Waves", ["TRUE"]) == ["TRUE"] else []
    return f"{'_'.join(parts)}.TIF"
