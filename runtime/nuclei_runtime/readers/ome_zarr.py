"""Reads OME-Zarr 0.4 and 0.5 folders; chunks are read when they are needed. Needs the extra `zarr`.

Metadata: the OME-NGFF specification (ngff.openmicroscopy.org), versions 0.4 and 0.5. Only local folders are opened, and
only arrays inside the folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree

import numpy as np

from nuclei_runtime.arrays import Image
from nuclei_runtime.errors import ImageReadError, ImageShapeError
from nuclei_runtime.readers.axes import UNKNOWN, Stack
from nuclei_runtime.readers.bounds import MAX_SEGMENT_BYTES
from nuclei_runtime.readers.pixel_size import PixelSize, in_micrometres
from nuclei_runtime.readers.scenes import Contents, Scene

_MAX_JSON_BYTES = 1 << 24
_MAX_CHUNK_BYTES = 1 << 29
_CODECS = frozenset(
    {"bytes", "transpose", "shuffle", "delta", "crc32c", "sharding_indexed"}
    | {"blosc", "zlib", "gzip", "zstd", "lz4", "bz2", "lzma"}
)
"""Codecs of the Zarr specifications 2 and 3. Others may run code that the file names, as the pickle codec does."""


def open_zarr(folder: Path, _: ExitStack) -> Contents:
    """Return the image of an OME-Zarr folder with its levels, or the images in it.

    Raises
    ------
    ImageReadError
        The folder is not an OME-Zarr image, is damaged, or uses an unsupported codec.
    ImageShapeError
        The folder is a well of a plate.
    """
    attributes = ome_attributes(folder)
    if "well" in attributes:
        raise ImageShapeError("the folder is a well of a plate; name the plate, and choose the well with --well")
    images = [] if "multiscales" in attributes else _images_in(folder)
    if not images:
        return _with_levels(folder)
    return [Scene(name, partial(_with_levels, inside(folder, path)), may_be_overview=True) for path, name in images]


def _with_levels(folder: Path) -> Stack:
    attributes = ome_attributes(folder)
    multiscale = _multiscale(attributes)
    finest, *coarser = multiscale["datasets"]  # the specification orders the levels from fine to coarse
    levels = [_level(folder, attributes, multiscale, finest)]
    for dataset in coarser:
        try:
            levels.append(_level(folder, attributes, multiscale, dataset))
        except ImageReadError:  # it was not copied: the finest is enough
            break
    return replace(levels[0], coarser=tuple(levels[1:]))


def _level(
    folder: Path, attributes: Mapping[str, Any], multiscale: Mapping[str, Any], dataset: Mapping[str, Any]
) -> Stack:
    axes = [axis for axis in multiscale.get("axes", ()) if isinstance(axis, dict)]
    letters = "".join(_letter(axis) for axis in axes)
    named = letters.replace(UNKNOWN, "")
    if letters[-2:] != "YX" or len(set(named)) < len(named):
        raise ImageReadError(f"the axes {multiscale.get('axes')} are not those of OME-Zarr 0.4 or 0.5")
    array = _open_array(folder, str(dataset["path"]))
    if array.ndim != len(axes):
        raise ImageReadError(f"the metadata name {len(axes)} axes, the array has {array.ndim} dimensions")
    chunk_bytes = prod(array.chunks) * array.dtype.itemsize
    if chunk_bytes > _MAX_CHUNK_BYTES:
        raise ImageReadError(f"its chunks are {chunk_bytes} bytes each, expected at most {_MAX_CHUNK_BYTES}")

    def read(index: tuple[int, ...], rows: slice, columns: slice) -> Image:
        return np.asarray(array[(*index, rows, columns)])

    return Stack(
        axes=letters,
        shape=tuple(array.shape),
        dtype=array.dtype,
        channels=_channels(attributes),
        pixel_size_um=_pixel_size(multiscale, dataset, axes),
        read=read,
        reads_blocks=prod(array.chunks) * array.dtype.itemsize <= MAX_SEGMENT_BYTES,
    )


def ome_attributes(folder: Path) -> Mapping[str, Any]:
    """Return the group's OME metadata: under ``ome`` in version 0.5, at the top in 0.4; none if there are none.

    Raises
    ------
    ImageReadError
        They are too large, or no JSON object.
    """
    whole = _json(folder / "zarr.json")
    if whole is not None:
        ome = whole.get("attributes", {}).get("ome", {})
        return ome if isinstance(ome, dict) else {}
    return _json(folder / ".zattrs") or {}


def _json(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    if path.stat().st_size > _MAX_JSON_BYTES:
        raise ImageReadError(f"{path.name} is larger than {_MAX_JSON_BYTES} bytes")
    value = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        raise ImageReadError(f"{path.name} is not a JSON object")
    return value


def _images_in(folder: Path) -> list[tuple[str, str]]:
    """Return the paths and names of the images in a folder that is not one itself.

    bioformats2raw puts each image of a file into a folder of its own, and their order and the OME-XML into one called
    OME (the transitional layout 3 of the specification).
    """
    listed = ome_attributes(folder / "OME").get("series")
    if isinstance(listed, list):
        paths = list(map(str, listed))
    else:
        paths = sorted((path.name for path in folder.iterdir()), key=lambda name: (len(name), name))
    found = [path for path in paths if "multiscales" in ome_attributes(inside(folder, path))]
    names = _names_in_xml(folder / "OME" / "METADATA.ome.xml")
    return list(zip(found, names if len(names) == len(found) else found, strict=True))


def _names_in_xml(path: Path) -> list[str]:
    """Return the names of the images in OME-XML, such as ``label image``; none if it is missing or damaged."""
    if not path.is_file() or path.stat().st_size > _MAX_JSON_BYTES:
        return []
    xml = path.read_text(encoding="utf-8", errors="replace")
    if "<!DOCTYPE" in xml or "<!ENTITY" in xml:
        return []
    try:
        images = list(ElementTree.fromstring(xml).iterfind("{*}Image"))
    except ElementTree.ParseError:
        return []
    return [image.get("Name") or str(i) for i, image in enumerate(images)]


def _multiscale(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    multiscales = attributes.get("multiscales")
    if not (isinstance(multiscales, list) and multiscales and isinstance(multiscales[0], dict)):
        raise ImageReadError("the folder is not an OME-Zarr image: it lacks multiscales metadata of version 0.4 or 0.5")
    if len(multiscales) > 1:
        raise ImageShapeError(f"the folder holds {len(multiscales)} images; save the one to segment separately")
    return multiscales[0]


def _letter(axis: Mapping[str, Any]) -> str:
    name, kind = str(axis.get("name", "")).upper(), axis.get("type")
    if kind in ("time", "channel"):
        return "T" if kind == "time" else "C"
    allowed = ("Z", "Y", "X") if kind == "space" else ("T", "C", "Z", "Y", "X") if kind is None else ()
    return name if name in allowed else UNKNOWN


def inside(folder: Path, name: str) -> Path:
    """Return the path of what the metadata name, which must be inside the folder.

    Raises
    ------
    ImageReadError
        It is not.
    """
    relative = PurePosixPath(name)
    if not name or relative.is_absolute() or ".." in relative.parts or ":" in name or "\\" in name:
        raise ImageReadError(f"its metadata refer to {name!r}, outside the folder")
    path = folder.joinpath(*relative.parts)
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ImageReadError(f"its metadata refer to {name!r}, a link out of the folder")
    return path


def _open_array(folder: Path, name: str) -> Any:
    path = inside(folder, name)
    description = _json(path / "zarr.json") or _json(path / ".zarray")
    if description is None:
        raise ImageReadError(f"its array {name!r} is missing; the folder may have been copied only in part")
    used = {codec.removeprefix("numcodecs.") for codec in _codecs(description)}
    if used - _CODECS:
        raise ImageReadError(
            f"it is compressed with {', '.join(sorted(used - _CODECS))}, which is not supported; save it with "
            "blosc, zstd or gzip"
        )
    import zarr
    from zarr.storage import LocalStore

    return zarr.open_array(LocalStore(path, read_only=True), mode="r")


def _codecs(description: Mapping[str, Any]) -> Iterator[str]:
    """Return the names of all codecs, including those inside shards."""
    listed = [*(description.get("codecs") or ()), *(description.get("filters") or ())]
    for codec in [*listed, description.get("compressor")]:
        if isinstance(codec, dict):
            yield str(codec.get("name", codec.get("id")))
            inner = codec.get("configuration")
            for part in ("codecs", "index_codecs"):
                if isinstance(inner, dict) and part in inner:
                    yield from _codecs({"codecs": inner[part]})
        elif codec is not None:
            yield str(codec)


def _channels(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the channel labels from the rendering settings of OMERO, which the specification allows."""
    channels = (attributes.get("omero") or {}).get("channels") or []
    names = tuple(str(channel.get("label", "")) for channel in channels if isinstance(channel, dict))
    return names if all(names) else ()


def _pixel_size(
    multiscale: Mapping[str, Any], dataset: Mapping[str, Any], axes: list[dict[str, Any]]
) -> PixelSize | None:
    """Multiply the scales of the level and of the whole image; None if something else than a scale is among them."""
    steps = [*(dataset.get("coordinateTransformations") or ()), *(multiscale.get("coordinateTransformations") or ())]
    scales = [step.get("scale") for step in steps if step.get("type") not in ("identity", "translation")]
    if not scales or not all(isinstance(scale, list) and len(scale) == len(axes) for scale in scales):
        return None
    height, width = np.prod([scale[-2:] for scale in scales], axis=0, dtype=float)
    return in_micrometres((float(height), float(width)), [str(axis.get("unit", "")) for axis in axes[-2:]])
