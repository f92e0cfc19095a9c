"""What the folders of a file say about it, and which names belong together."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from nuclei_runtime.readers.formats import image_suffixes
from nuclei_train.data.annotations.formats import FORMATS, AnnotationFormat
from nuclei_train.data.composed import composed

IMAGES, ANNOTATIONS = "images", "annotations"

ROLES = {
    "images": (IMAGES, ""),
    "masks": (ANNOTATIONS, ""),
    "labels": (ANNOTATIONS, ""),
    "annotations": (ANNOTATIONS, ""),
    "rois": (ANNOTATIONS, ""),
    "training - images": (IMAGES, "train"),  # these four of ZeroCostDL4Mic
    "training - masks": (ANNOTATIONS, "train"),
    "test - images": (IMAGES, "test"),
    "test - masks": (ANNOTATIONS, "test"),
}
"""What a folder holds, by its name in lower case, and the split that the name gives."""

SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""The split that a folder gives, by its name in lower case without a year: COCO's ``train2017``."""

_IMAGE_MARKS = ("_img", "_image")
"""What the name of an image may have that its annotation lacks, as in Cellpose's ``000_img.png``, ``000_masks.png``."""

_PART_SUFFIXES = (".ome",)


@dataclass(frozen=True)
class Place:
    """What the folders of a file say.

    Attributes
    ----------
    level : PurePosixPath
        The folder of the data set, above those that say the rest.
    role : str
        `IMAGES`, `ANNOTATIONS`, or empty.
    split : str
        ``train``, ``val``, ``test``, or empty.
    """

    level: PurePosixPath
    role: str
    split: str


def place_of(path: PurePosixPath) -> Place:
    """Return what the two innermost folders say: ``train/images`` and ``images/train`` say the same."""
    level, role, split = path.parent, "", ""
    for _ in range(2):
        name = level.name.lower()
        if not role and name in ROLES:
            role, given = ROLES[name]
            split = given or split
        elif not split and name and split_of(name):
            split = split_of(name)
        else:
            break
        level = level.parent
    return Place(level, role, split)


def split_of(name: str) -> str:
    """Return the split that a name in lower case stands for, or an empty text."""
    return SPLITS.get(re.sub(r"\d{4}$", "", name), "")


def is_image(path: PurePosixPath) -> bool:
    """Whether a file is an image by its suffix; a label image is one too."""
    return path.suffix.lower() in image_suffixes()


def identifier_of(path: PurePosixPath) -> str:
    """Return the identifier of an image: its name without the suffix."""
    return composed(path.stem)


def image_keys(path: PurePosixPath) -> Iterator[str]:
    """Yield the names under which an image's annotation is searched, the best first."""
    key = _without_suffixes(path.name)
    yield key
    for mark in _IMAGE_MARKS:
        if key.lower().endswith(mark) and len(key) > len(mark):
            yield key[: -len(mark)]


def annotation_keys(path: PurePosixPath, *, beside: bool) -> Iterator[tuple[str, AnnotationFormat]]:
    """Yield the names of the image that a file may annotate, the best first, and its format.

    Parameters
    ----------
    path : PurePosixPath
    beside : bool
        Whether the file lies among images, where it needs its mark to be told from them.
    """
    suffix = path.suffix.lower()
    for form in FORMATS:
        if suffix in form.suffixes:
            key = _without_suffixes(path.name[: -len(suffix)] if not is_image(path) else path.name)
            if not (form.needs_mark and (beside or form.reader is None)):
                yield key, form
            for mark in form.marks:
                if key.lower().endswith(mark) and len(key) > len(mark):
                    yield key[: -len(mark)], form
                    break  # the longest


def _without_suffixes(name: str) -> str:
    """Return a file's name without the suffixes of images: ``a`` for ``a.ome.tif``, and for ``a.svs`` of a QuPath."""
    path = PurePosixPath(composed(name))
    while path.suffix and path.stem and path.suffix.lower() in (*image_suffixes(), *_PART_SUFFIXES):
        path = path.with_suffix("")
    return path.name
