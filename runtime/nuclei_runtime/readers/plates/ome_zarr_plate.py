"""Plates in OME-Zarr: wells and fields are folders, and each field is an image.

Metadata: ``plate`` and ``well`` of the OME-NGFF specification, versions 0.4 and 0.5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from nuclei_runtime.errors import ImageReadError
from nuclei_runtime.readers.ome_zarr import inside, ome_attributes
from nuclei_runtime.readers.plates.field import Field, OpenFile, check_number
from nuclei_runtime.readers.scenes import Contents


def zarr_fields(folder: Path) -> Sequence[Field] | None:
    """Return the fields of an OME-Zarr plate, each of which is an image; None if the folder is no plate.

    Raises
    ------
    ImageReadError
        The metadata of the plate or of a well are damaged.
    """
    plate = ome_attributes(folder).get("plate")
    if plate is None:
        return None
    wells = _objects(plate, "wells")
    check_number(len(wells))
    named = [(_well_name(well), str(well.get("path"))) for well in wells]
    fields = [
        FieldOfImage(folder, name, PurePosixPath(image).name, image)
        for name, path in named
        for image in _images_of_well(folder, path)
    ]
    check_number(len(fields))
    if len({(field.well, field.name) for field in fields}) < len(fields):
        raise ImageReadError("the metadata of the plate name a field twice")
    return fields


@dataclass(frozen=True)
class FieldOfImage(Field):
    """A field that is an image of its own.

    Attributes
    ----------
    image : str
        Its folder relative to the plate, with ``/``.
    """

    image: str

    @property
    def paths(self) -> Sequence[Path]:
        """Its folder."""
        return [inside(self.plate, self.image)]

    @property
    def described(self) -> str:
        """What the metadata of the plate say of it."""
        return self.image

    def open(self, open_file: OpenFile, resources: ExitStack) -> Contents:
        """Return the image.

        Raises
        ------
        ImageReadError, ImageShapeError
            See `nuclei_runtime.readers.opening.read_image`.
        """
        path = inside(self.plate, self.image)
        if not path.is_dir():
            raise ImageReadError(f"{self.image} is missing, although the plate names it; copy the whole plate")
        return open_file(path, resources)


def _objects(attributes: Any, name: str) -> list[dict[str, Any]]:
    found = attributes.get(name) if isinstance(attributes, dict) else None
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise ImageReadError(f"the metadata of the plate do not list {name}")
    return found


def _well_name(well: Mapping[str, Any]) -> str:
    """Return the name of a well from those of its row and column, as in its path: ``B02`` for ``B/2``."""
    row, _, column = str(well.get("path", "")).partition("/")
    if not (row.isalnum() and column.isalnum() and row.isascii() and column.isascii()):
        raise ImageReadError(f"the metadata of the plate name a well {well.get('path')!r}, expected one such as B/2")
    return f"{row}{column.zfill(2)}"


def _images_of_well(folder: Path, path: str) -> list[str]:
    """Return the folders of the images of a well, relative to the plate.

    Raises
    ------
    ImageReadError
        They were taken in several acquisitions, of which each may show the same place again.
    """
    attributes = ome_attributes(inside(folder, path))
    if "well" not in attributes:
        return [f"{path}/0"]  # the well was not copied: reading will say so
    images = _objects(attributes["well"], "images")
    if len({str(image.get("acquisition")) for image in images}) > 1:
        raise ImageReadError(
            f"the well {path} holds images of several acquisitions, which may show the same cells; name the images to "
            f"segment instead of the plate, such as {folder.name}/{path}/{images[0].get('path')}"
        )
    return [f"{path}/{image.get('path')}" for image in images]
