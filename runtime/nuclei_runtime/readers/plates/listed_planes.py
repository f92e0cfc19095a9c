"""From a list of planes, as XML indexes have them, to the fields of a plate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from nuclei_runtime.errors import ImageReadError
from nuclei_runtime.readers.pixel_size import PixelSize
from nuclei_runtime.readers.plates.field import Field, check_number, well_name
from nuclei_runtime.readers.plates.planes import FieldOfPlanes, Position


class ListedPlane(NamedTuple):
    """What an index says of one plane. All but the path and the size are numbers as the index counts.

    Attributes
    ----------
    row, column : int
        Of the well, from 1.
    field, time, channel, depth : int
    path : str
        Relative to the plate, with ``/``; empty if the microscope stored nothing.
    """

    row: int
    column: int
    field: int
    time: int
    channel: int
    depth: int
    path: str


def fields_of(
    folder: Path,
    index: str,
    planes: Sequence[ListedPlane],
    names: Mapping[int, str],
    sizes: Mapping[int, PixelSize | None],
) -> Sequence[Field]:
    """Return the fields, by well and number.

    Parameters
    ----------
    folder : Path
        Of the plate.
    index : str
        Its name, for messages.
    planes : sequence of ListedPlane
    names, sizes : mapping
        Of each channel by its number in the index: its name, which may be empty, and the size of its pixels.

    Raises
    ------
    ImageReadError
        The index names no plane, or two files for one.
    """
    if not planes:
        raise ImageReadError(f"{index} names no image; the export may not be complete")
    channels = _ranks(plane.channel for plane in planes)
    times = _ranks(plane.time for plane in planes)
    depths = _ranks(plane.depth for plane in planes)
    grouped: dict[tuple[int, int, int], dict[Position, str]] = {}
    for plane in planes:
        files = grouped.setdefault((plane.row, plane.column, plane.field), {})
        position = times[plane.time], channels[plane.channel], depths[plane.depth]
        if position in files:
            raise ImageReadError(
                f"{index} names two files for the same plane, {files[position] or 'none'} and {plane.path or 'none'}; "
                "export them as separate plates"
            )
        files[position] = plane.path
    check_number(len(grouped))
    in_order = tuple(names.get(channel) or f"C{channel:02d}" for channel in channels)
    return tuple(
        FieldOfPlanes(
            folder,
            well_name(row, column),
            str(number),
            files,
            in_order,
            len(times),
            len(depths),
            tuple(sizes.get(channel) for channel in channels),
        )
        for (row, column, number), files in sorted(grouped.items())
    )


def _ranks(numbers: Iterable[int]) -> dict[int, int]:
    return {number: rank for rank, number in enumerate(sorted(set(numbers)))}
