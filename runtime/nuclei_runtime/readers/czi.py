"""Reads CZI files of Zeiss: their scenes, each composed from its tiles at full resolution. Needs the extra `czi`.

libCZI, through pylibCZIrw, reads every compression of the format on every Python that is supported. czifile needs
Python 3.12; on an older one pip installs a version of 2019, which fails on Zstandard. Elements of the metadata: the CZI
schema of Zeiss (ImageMetadata/Metadata).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast
from xml.etree import ElementTree

import numpy as np

from nuclei_runtime.arrays import Image
from nuclei_runtime.errors import ImageReadError, ImageShapeError
from nuclei_runtime.readers.axes import Stack
from nuclei_runtime.readers.bounds import CACHE_BYTES, MAX_SEGMENT_BYTES, check_claim
from nuclei_runtime.readers.czi_directory import Directory, walk_directory
from nuclei_runtime.readers.native_path import native_path
from nuclei_runtime.readers.pixel_size import PixelSize, in_micrometres
from nuclei_runtime.readers.scenes import Contents, Scene

_PIXEL_TYPES = {
    "Gray8": (np.uint8, 1),
    "Gray16": (np.uint16, 1),
    "Gray32Float": (np.float32, 1),
    "Bgr24": (np.uint8, 3),
    "Bgr48": (np.uint16, 3),
}
_LAYERED = {"H": "phases", "V": "views", "I": "illuminations", "R": "rotations", "B": "blocks"}
"""Dimensions of which a plane is only one part until ZEN has processed the file."""


def open_czi(source: BinaryIO | Path, resources: ExitStack) -> Contents:
    """Return the scenes of a CZI, or its single image.

    Raises
    ------
    ImageReadError, ImageShapeError
        See `nuclei_runtime.readers.opening.read_image`.
    """
    from pylibCZIrw import czi

    file = cast(BinaryIO, source)
    directory = walk_directory(file)
    path = native_path(source, resources, ".czi")
    cache = czi.CacheOptions(czi.CacheType.Standard, max_memory_usage=CACHE_BYTES)
    document: Any = resources.enter_context(czi.open_czi(str(path), cache_options=cache))
    for axis, name in _LAYERED.items():
        if directory.sizes.get(axis, 1) > 1:
            raise ImageShapeError(
                f"the CZI holds {directory.sizes[axis]} {name} of each plane, which belong together; process them in "
                f"ZEN, or export the {name[:-1]} to segment as OME-TIFF"
            )
    metadata = _metadata(document)
    scenes = sorted(document.scenes_bounding_rectangle_no_pyramid.items())
    if not scenes:
        scenes = [(None, document.total_bounding_rectangle_no_pyramid)]
    names = _scene_names(metadata)
    image = _Czi(document, metadata, directory, file.seek(0, 2))
    return [Scene(names.get(number, ""), partial(image.stack, number, rectangle)) for number, rectangle in scenes]


def _pixel_type(name: str) -> tuple[Any, int]:
    if name not in _PIXEL_TYPES:
        raise ImageReadError(f"the CZI holds pixels of the type {name}; expected {', '.join(_PIXEL_TYPES)}")
    return _PIXEL_TYPES[name]


@dataclass(frozen=True)
class _Czi:
    document: Any
    metadata: ElementTree.Element
    directory: Directory
    file_bytes: int

    def stack(self, scene: int | None, rectangle: Any) -> Stack:
        """Return one scene."""
        types = [_pixel_type(name) for _, name in sorted(self.document.pixel_types.items())]
        samples = {n for _, n in types}
        if len(samples) != 1:
            raise ImageShapeError("the CZI holds grey and colour channels; export the one to segment as OME-TIFF")
        dtype = np.result_type(*(dtype for dtype, _ in types))
        (n_samples,) = samples
        height, width = int(rectangle.h), int(rectangle.w)
        lead = {axis: self.directory.sizes.get(axis, 1) for axis in "TZC"}
        if min(height, width) == 1 and max(height, width, lead["T"]) > 1:
            raise ImageShapeError(
                f"the CZI is a line scan of {max(height, width)} pixels, not an image; there is nothing to segment"
            )
        check_claim("CZI", height * width * n_samples * dtype.itemsize, self.file_bytes)
        own = {(time, depth, of) for number, time, depth, of in self.directory.planes if number == (scene or 0)}

        def taken(channel: int) -> list[tuple[int, int]]:
            return sorted((time, depth) for time, depth, of in own if of == channel)

        def read(index: tuple[int, ...], rows: slice, columns: slice) -> Image:
            if index not in own:  # libCZI returns zeros
                raise ImageReadError("the CZI has no pixels of channel {2} at time {0} and depth {1}".format(*index))
            roi = (
                rectangle.x + columns.start,
                rectangle.y + rows.start,
                columns.stop - columns.start,
                rows.stop - rows.start,
            )
            plane = {axis: i for axis, i in zip(lead, index, strict=True) if axis in self.directory.sizes}
            image: Image = self.document.read(roi=roi, plane=plane, scene=scene)
            image = image[..., ::-1] if n_samples == 3 else image[..., 0]  # libCZI gives blue, green, red
            return image.astype(dtype, copy=False)

        return Stack(
            axes="TZCYX" if n_samples == 1 else "TZCYXS",
            shape=(*lead.values(), height, width, *([n_samples] if n_samples > 1 else [])),
            dtype=dtype,
            channels=_channel_names(self.metadata, lead["C"]),
            pixel_size_um=_pixel_size(self.metadata),
            read=read,
            reads_blocks=self.directory.max_tile_bytes <= MAX_SEGMENT_BYTES,
            taken=taken,
        )


def _metadata(document: Any) -> ElementTree.Element:
    """Return the metadata; an empty element if there are none."""
    xml = document.raw_metadata
    if "<!DOCTYPE" in xml or "<!ENTITY" in xml:
        raise ImageReadError("the metadata of the CZI were refused: they declare a document type")
    try:
        return ElementTree.fromstring(xml) if xml.strip() else ElementTree.Element("ImageDocument")
    except ElementTree.ParseError as error:
        raise ImageReadError(f"the metadata of the CZI are damaged: {error}") from error


def _scene_names(metadata: ElementTree.Element) -> dict[int | None, str]:
    """Return the names of the scenes by their number; wells are called by their place on the plate."""
    found = metadata.iterfind("Metadata/Information/Image/Dimensions/S/Scenes/Scene")
    return {int(scene.get("Index", -1)): scene.get("Name", "") for scene in found}


def _channel_names(metadata: ElementTree.Element, n: int) -> tuple[str, ...]:
    """Return the names of the channels: those of the acquisition, else those of the display settings."""
    for path in ("Metadata/Information/Image/Dimensions/Channels/Channel", "Metadata/DisplaySetting/Channels/Channel"):
        names = tuple(channel.get("Name", "") for channel in metadata.iterfind(path))
        if len(names) == n and all(names):
            return names
    return ()


def _pixel_size(metadata: ElementTree.Element) -> PixelSize | None:
    """Return the size of a pixel, which the metadata state in metres."""
    distances: dict[str | None, Sequence[str | None]] = {
        item.get("Id"): [value.text for value in item.iterfind("Value")]
        for item in metadata.iterfind("Metadata/Scaling/Items/Distance")
    }
    try:
        (down,), (across,) = ([float(text or "nan") for text in distances[axis]] for axis in "YX")
    except (KeyError, ValueError):
        return None
    return in_micrometres((down, across), ("m", "m"))
