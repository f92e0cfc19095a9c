"""The pictures of a report: of the images, where these still are as they were, or else of the overlays."""

from __future__ import annotations

import io
import math
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from PIL import Image as PillowImage

from nuclei_runtime.errors import ImageError, InputsError
from nuclei_runtime.readers.opening import open_planes
from nuclei_runtime.readers.plane import Plane, Selection
from nuclei_runtime.results.layout import is_result, leads_out
from nuclei_runtime.results.read_tables import PlaneKey, Row, image_name, plane_key
from nuclei_runtime.results.records import record_of
from nuclei_runtime.results.wells import plate_of_field
from nuclei_runtime.runs.inputs import ImageFile, find_images
from nuclei_runtime.runs.sources import digest_source
from nuclei_runtime.writers.csv_cells import csv_cell
from nuclei_runtime.writers.outputs import OVERLAYS
from nuclei_runtime.writers.overlay_png import draw_plane, overlay_scale

Kind = Literal["image", "overlay"]

PICTURES_BYTES = 12_000_000
"""What the pictures of a report may take together."""
_MIN_SIDE_PX, _MAX_SIDE_PX = 256, 1024
_BYTES_A_PX = 0.1
"""Of a fluorescence image, as WebP of the first of `_ATTEMPTS`."""

_ATTEMPTS = ((1.0, 60), (1.0, 30), (0.8, 30), (0.6, 30), (0.6, 10))
"""Size and quality of a picture: the first that takes no more than its share of `PICTURES_BYTES`, or the last."""


class Pictures:
    """The pictures of a results folder, as WebP.

    Parameters
    ----------
    out : Path
        The results folder.
    provenance : dict
        Its ``provenance.json``, which says where the images were and how their planes were chosen.
    n : int
        How many there will be: the more, the smaller each is.
    """

    def __init__(self, out: Path, provenance: dict[str, Any], n: int) -> None:
        self._out = out
        self._folder = _images_folder(out, provenance)
        self._selection = _selection_of(provenance)
        self._share = PICTURES_BYTES / max(n, 1)
        self._side = min(max(math.sqrt(self._share / _BYTES_A_PX), _MIN_SIDE_PX), _MAX_SIDE_PX)
        self._read: tuple[str, dict[PlaneKey, bytes]] = "", {}
        self._plate: tuple[str, dict[str, ImageFile]] = "", {}

    def of(self, row: Row) -> tuple[bytes, Kind] | None:
        """Return the picture of a row of ``images.csv``, and what it shows; None if there is neither file."""
        name = image_name(row)
        if self._read[0] != name:  # the planes of an image follow each other
            self._read = name, self._read_image(name, plate_of_field(row))
        picture = self._read[1].get(plane_key(row))
        if picture is not None:
            return picture, "image"
        picture = self._of_overlay(row.get("labels", ""))
        return None if picture is None else (picture, "overlay")

    def _read_image(self, name: str, plate: str | None) -> dict[PlaneKey, bytes]:
        """Return the pictures of an image's planes; none if it is not the image that was segmented."""
        if self._folder is None:
            return {}
        try:
            file = self._fields_of(plate).get(name) if plate else ImageFile(self._folder / name, name, "")
            if file is None:
                return {}
            record = record_of(self._out, name)
            if record is None or record.source is None or digest_source(file) != record.source:
                return {}
            pictures = {}
            with open_planes(file.source, self._selection) as planes:
                for plane in planes:
                    with suppress(ImageError, FileNotFoundError):  # a plane that failed costs no other its picture
                        drawn = PillowImage.fromarray(draw_plane(plane, overlay_scale(plane.shape)))
                        pictures[_key(name, plane)] = self._webp(drawn)
            return pictures
        except (ImageError, InputsError, FileNotFoundError):
            return {}

    def _fields_of(self, plate: str) -> dict[str, ImageFile]:
        """Return the fields of a plate by name."""
        if self._plate[0] != plate and self._folder is not None:  # those of a plate follow each other
            path = next(filter(Path.exists, (self._folder / f"{plate}{suffix}" for suffix in ("", ".zarr"))), None)
            files = find_images([path], out=self._out).files if path is not None else ()
            above = PurePosixPath(plate).parent
            self._plate = plate, {(above / file.name).as_posix(): file for file in files}
        return self._plate[1]

    def _of_overlay(self, labels: str) -> bytes | None:
        path = PurePosixPath(OVERLAYS.folder, *PurePosixPath(labels).parts[1:])
        overlay = path.with_suffix(OVERLAYS.ending).as_posix() if path.name else ""
        if not is_result(overlay) or leads_out(self._out, self._out / overlay):
            return None
        with suppress(OSError, ValueError), PillowImage.open(self._out / overlay) as picture:
            return self._webp(picture.convert("RGB"))
        return None

    def _webp(self, picture: PillowImage.Image) -> bytes:
        content = b""
        for size, quality in _ATTEMPTS:
            picture.thumbnail((size * self._side,) * 2, PillowImage.Resampling.BOX)
            file = io.BytesIO()
            picture.save(file, "WEBP", quality=quality, method=4)
            content = file.getvalue()
            if len(content) <= self._share:
                break
        return content


def _key(name: str, plane: Plane) -> PlaneKey:
    place = csv_cell(name), csv_cell(plane.scene_label), plane.time, plane.z
    image, scene, time, z = ("" if value is None else str(value) for value in place)
    return image, scene, time, z


def _images_folder(out: Path, provenance: dict[str, Any]) -> Path | None:
    machine = provenance.get("machine")
    folder = machine.get("images_folder") if isinstance(machine, dict) else None
    return out / folder if isinstance(folder, str) and folder else None


def _selection_of(provenance: dict[str, Any]) -> Selection:
    try:
        return Selection(**provenance["method"]["selection"])
    except (KeyError, TypeError, ValueError):  # of another version
        return Selection()
