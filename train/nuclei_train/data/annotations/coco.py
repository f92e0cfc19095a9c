"""COCO JSON: one file with the outlines of many images, as polygons or run lengths.

Every category counts as nuclei. A crowd (``iscrowd``) is an area, and a box alone is no outline: neither becomes a
nucleus. An image that the file lists without annotations has no nuclei.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.readers.outlines.drawing import Outline
from nuclei_train.data.annotations.drawing import NO_OUTLINE, AnnotationFile, Drawing, LeftOut, Nucleus, bounds
from nuclei_train.data.annotations.json_text import parse_json
from nuclei_train.data.annotations.outlines import draw_nucleus, smallest_first
from nuclei_train.data.composed import composed
from nuclei_train.errors import DatasetError

MIN_CORNERS = 3

_FIRST_DIGIT = 48
"""The compressed form writes a run length as digits of 5 bits and a flag for more, each as a character from '0' on."""


@dataclass(frozen=True)
class CocoImage:
    """An image that a COCO file lists.

    Attributes
    ----------
    file_name : str
        With ``/``.
    size : tuple of int, optional
        Height and width; None if the file does not say.
    annotations : tuple of dict
    """

    file_name: str
    size: tuple[int, int] | None
    annotations: tuple[Mapping[str, Any], ...]


def is_coco(document: Any) -> bool:
    """Whether a JSON document has the two lists of COCO's format for objects."""
    return isinstance(document, dict) and all(isinstance(document.get(key), list) for key in ("images", "annotations"))


def find_image(images: Sequence[CocoImage], image_name: str) -> CocoImage | None:
    """Return the listed image that an image file is: its name ends with the listed one; the longest wins."""
    parts = PurePosixPath(composed(image_name)).parts
    fitting = []
    for image in images:
        listed = _listed_parts(image.file_name)
        if listed and parts[-len(listed) :] == listed:
            fitting.append((len(listed), image))
    return max(fitting, key=lambda found: found[0])[1] if fitting else None


def read_coco(file: AnnotationFile) -> Drawing:
    """Read the annotations of one image.

    Raises
    ------
    ImageError
        The size of the image is not known, because it cannot be read.
    DatasetError
        The file is not COCO JSON, does not list the image, or an annotation of it is damaged.
    """
    image = find_image(list_images(file.content, file.name), file.image_name)
    if image is None:
        raise DatasetError(f"{file.name}: does not list {PurePosixPath(file.image_name).name}; export it again")
    size = file.image_size()
    if image.size not in (None, size):
        raise DatasetError(
            f"{file.name}: says that {image.file_name} is {image.size[0]} x {image.size[1]} px, but the image is "
            f"{size[0]} x {size[1]}; export the annotations of this very image"
        )
    nuclei: list[Nucleus] = []
    left_out: list[LeftOut] = []
    for annotation in image.annotations:
        where = f"{file.name}, annotation {annotation.get('id')}"
        shape = annotation.get("segmentation")
        if annotation.get("iscrowd"):
            left_out.append(LeftOut(NO_OUTLINE, f"{where}: a crowd"))
        elif isinstance(shape, dict):
            mask = _decode(shape, size, where)
            window = bounds(mask)
            nuclei.append(Nucleus(where, window, mask[window]))
        elif shape and isinstance(shape, list):
            drawn = draw_nucleus(where, [_polygon(points, where) for points in shape], size)
            if isinstance(drawn, Nucleus):
                nuclei.append(drawn)
            else:
                left_out.append(drawn)
        else:
            left_out.append(LeftOut(NO_OUTLINE, f"{where}: a box alone"))
    return Drawing(size, smallest_first(nuclei), tuple(left_out))


@lru_cache(maxsize=2)  # each image of a data set asks for its part of the same file
def list_images(content: bytes, name: str) -> tuple[CocoImage, ...]:
    """Return the images that a COCO file lists.

    Raises
    ------
    DatasetError
        The file is not COCO JSON, lists an image twice, or has annotations of an image that it does not list: their
        nuclei would be learned as background.
    """
    document = parse_json(content, name)
    if not is_coco(document):
        raise DatasetError(f"{name}: not COCO JSON; expected the lists images and annotations")
    annotations: dict[Any, list[Mapping[str, Any]]] = {}
    try:
        for annotation in document["annotations"]:
            annotations.setdefault(annotation["image_id"], []).append(annotation)
        by_id = {image["id"]: image for image in document["images"]}
        listed = [
            CocoImage(composed(image["file_name"]).replace("\\", "/"), _size(image), tuple(annotations.get(key, ())))
            for key, image in by_id.items()
        ]
        ids = [image["id"] for image in document["images"] if by_id[image["id"]] != image]
    except (TypeError, KeyError, AttributeError) as error:
        raise DatasetError(
            f"{name}: not COCO JSON: every image needs id and file_name, every annotation image_id ({error!r}); "
            "export it again"
        ) from error
    if ids:
        raise DatasetError(f"{name}: gives several images the id {ids[0]!r}; give each its own, or export it again")
    unlisted = [key for key in annotations if key not in by_id]
    if unlisted:
        raise DatasetError(
            f"{name}: {sum(len(annotations[key]) for key in unlisted)} of its {len(document['annotations'])} "
            f"annotations belong to an image that it does not list; the first has the image_id {unlisted[0]!r}; list "
            "the image, remove its annotations, or export the file again"
        )
    names = Counter(_listed_parts(image.file_name) for image in listed)
    twice = [image.file_name for image in listed if names[_listed_parts(image.file_name)] > 1]
    if twice:
        raise DatasetError(
            f"{name}: lists {twice[0]} {names[_listed_parts(twice[0])]} times, with an id each; put all annotations of "
            "an image under one id"
        )
    return tuple(listed)


def _listed_parts(file_name: str) -> tuple[str, ...]:
    """Return the folders and the name that an image file must have to be the listed one."""
    return tuple(part for part in PurePosixPath(file_name).parts if part not in ("/", ".", ".."))


def _size(image: Mapping[str, Any]) -> tuple[int, int] | None:
    height, width = image.get("height"), image.get("width")
    return (height, width) if isinstance(height, int) and isinstance(width, int) and height and width else None


def _polygon(points: Any, where: str) -> Outline:
    """Return one piece of a nucleus: x and y in turn, in pixels from the corner of the first."""
    try:
        corners = np.array(points, np.float64).reshape(-1, 2)[:, ::-1]
    except (TypeError, ValueError, OverflowError):
        corners = np.empty((0, 2))
    if len(corners) < MIN_CORNERS or not np.isfinite(corners).all():
        raise DatasetError(f"{where}: expected a polygon of three or more finite x and y in turn; export it again")
    return Outline((corners,))


def _decode(shape: Mapping[str, Any], size: tuple[int, int], where: str) -> NDArray[np.bool_]:
    """Return the mask that run lengths describe: column by column, background first."""
    if list(shape.get("size", ())) != list(size):
        raise DatasetError(f"{where}: its mask is {shape.get('size')}, expected {list(size)}; export it again")
    counts = shape.get("counts")
    runs = list(_decompress(counts, where)) if isinstance(counts, str) else counts
    if (
        not isinstance(runs, list)
        or not all(isinstance(run, int) and run >= 0 for run in runs)
        or sum(runs) != size[0] * size[1]
    ):
        raise DatasetError(f"{where}: its run lengths do not add up to the image; export it again")
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(size[1], size[0]).T


def _decompress(text: str, where: str) -> Iterator[int]:
    """Yield the run lengths of COCO's compressed form: from the third on, the difference to the one before the last."""
    runs: list[int] = []
    value, shift = 0, 0
    for digit in (ord(character) - _FIRST_DIGIT for character in text):
        value |= (digit & 0b11111) << shift
        shift += 5
        if digit & 0b100000:
            continue
        if digit & 0b10000:  # negative
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value, shift = 0, 0
    if shift:
        raise DatasetError(f"{where}: its run lengths are cut off; export it again")
    yield from runs
