"""Plates of CellVoyager (Yokogawa CV7000 and CV8000): XML files and a TIFF per plane.

``MeasurementData.mlf`` lists the planes. ``MeasurementDetail.mrf`` gives the size of a pixel for each channel and names
the settings (``.mes``), where a channel may have a name.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path, PureWindowsPath
from xml.etree import ElementTree

from nuclei_runtime.readers.pixel_size import PixelSize, in_micrometres
from nuclei_runtime.readers.plates.field import Field
from nuclei_runtime.readers.plates.index_xml import local_name, number, records
from nuclei_runtime.readers.plates.listed_planes import ListedPlane, fields_of

INDEX = "MeasurementData.mlf"
_DETAIL = "MeasurementDetail.mrf"


def cellvoyager_fields(folder: Path) -> Sequence[Field]:
    """Return the fields of a plate.

    Raises
    ------
    ImageReadError
        The index is damaged, or a part of it is missing.
    """
    states = []
    for name in (INDEX, _DETAIL):
        path = folder / name
        status = path.stat() if path.is_file() else None
        states.append((0, 0) if status is None else (status.st_size, status.st_mtime_ns))
    return _fields(folder, tuple(states))


@lru_cache(maxsize=4)
def _fields(folder: Path, _states: tuple[tuple[int, int], ...]) -> Sequence[Field]:
    """Read the index in this state; a watch looks at it again and again."""
    sizes, settings = _detail(folder / _DETAIL)
    planes = []
    for record in records(folder / INDEX, ("MeasurementRecord",)):
        values = _attributes(record)
        if values.get("Type") == "IMG":  # or ERR, for an error of the microscope
            planes.append(
                ListedPlane(
                    row=number(values, "Row"),
                    column=number(values, "Column"),
                    field=number(values, "FieldIndex"),
                    time=number(values, "TimePoint"),
                    channel=number(values, "Ch"),
                    depth=number(values, "ZIndex"),
                    path=PureWindowsPath((record.text or "").strip()).name,
                )
            )
    return fields_of(folder, INDEX, planes, _names(folder, settings), sizes)


def _detail(path: Path) -> tuple[dict[int, PixelSize | None], str]:
    """Return the sizes of pixels by channel, in micrometres, and the name of the file with the settings."""
    sizes: dict[int, PixelSize | None] = {}
    settings = ""
    for detail in records(path, ("MeasurementDetail",)):
        settings = _attributes(detail).get("MeasurementSettingFileName", "")
        for values in (_attributes(child) for child in detail if local_name(child.tag) == "MeasurementChannel"):
            try:
                size = [float(values.get(f"{axis}PixelDimension", "nan")) for axis in ("Vertical", "Horizontal")]
            except ValueError:
                continue
            sizes[number(values, "Ch")] = in_micrometres(size, ("um", "um"))
    return sizes, PureWindowsPath(settings).name


def _names(folder: Path, settings: str) -> dict[int, str]:
    """Return the names of the channels by their numbers; none without the settings, which are often not copied."""
    if not settings or not (folder / settings).is_file():
        return {}
    found = [_attributes(record) for record in records(folder / settings, ("Channel",))]
    return {number(values, "Ch"): values.get("Target", "") for values in found if "Ch" in values}


def _attributes(record: ElementTree.Element) -> dict[str, str]:
    return {local_name(name): value.strip() for name, value in record.attrib.items()}
