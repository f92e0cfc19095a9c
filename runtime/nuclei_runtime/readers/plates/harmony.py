"""Plates of Operetta and Opera Phenix: Harmony writes an XML index and a TIFF per plane.

The index is ``Index.idx.xml`` up to Harmony 5 and ``Index.xml`` in Harmony 6 and 7. In the latter, the names of the
channels and the sizes of their pixels stand once for each channel, in the entries of its maps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PureWindowsPath
from xml.etree import ElementTree

from nuclei_runtime.readers.pixel_size import PixelSize, in_micrometres
from nuclei_runtime.readers.plates.field import Field
from nuclei_runtime.readers.plates.index_xml import local_name, number, records
from nuclei_runtime.readers.plates.listed_planes import ListedPlane, fields_of

INDEXES = ("Images/Index.idx.xml", "Index.idx.xml", "Images/Index.xml", "Index.xml")
"""Relative to the folder of the plate, or of its images."""


def harmony_fields(folder: Path) -> Sequence[Field]:
    """Return the fields of a plate.

    Raises
    ------
    ImageReadError
        The index is damaged.
    """
    index = next(folder / name for name in INDEXES if (folder / name).is_file())
    status = index.stat()
    return _fields(folder, index, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4)
def _fields(folder: Path, index: Path, _size: int, _changed_ns: int) -> Sequence[Field]:
    """Read the index in this state; a watch looks at it again and again."""
    channels: dict[int, _Channel] = {}
    planes = []
    inside = index.parent.relative_to(folder).as_posix()
    for record in records(index, ("Entry", "Image")):
        values = {local_name(child.tag): (child.text or "").strip() for child in record}
        if local_name(record.tag) == "Entry":
            if "ChannelID" in record.attrib:
                channels.setdefault(number(record.attrib, "ChannelID"), _Channel()).add(values, _pixel_size(record))
        elif "ChannelID" in values:  # the wells list their images too, by name only
            channel = number(values, "ChannelID")
            channels.setdefault(channel, _Channel()).add(values, _pixel_size(record))
            url = PureWindowsPath(values.get("URL", "")).name
            planes.append(
                ListedPlane(
                    row=number(values, "Row"),
                    column=number(values, "Col"),
                    field=number(values, "FieldID"),
                    time=number(values, "TimepointID", "0"),
                    channel=channel,
                    depth=number(values, "PlaneID", "1"),
                    path=url if inside == "." or not url else f"{inside}/{url}",
                )
            )
    names = {id_: channel.name for id_, channel in channels.items()}
    sizes = {id_: channel.pixel_size_um for id_, channel in channels.items()}
    return fields_of(folder, index.name, planes, names, sizes)


@dataclass
class _Channel:
    name: str = ""
    pixel_size_um: PixelSize | None = None

    def add(self, values: Mapping[str, str], size: PixelSize | None) -> None:
        """Take what another element says of the channel and the ones before did not."""
        self.name = self.name or values.get("ChannelName", "")
        self.pixel_size_um = self.pixel_size_um or size


def _pixel_size(record: ElementTree.Element) -> PixelSize | None:
    found = {local_name(child.tag): child for child in record}
    try:
        down, across = (found[f"ImageResolution{axis}"] for axis in "YX")
        sizes = [float(element.text or "nan") for element in (down, across)]
    except (KeyError, ValueError):
        return None
    return in_micrometres(sizes, [element.get("Unit", "") for element in (down, across)])
