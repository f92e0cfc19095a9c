"""Images and annotations -> pairs, by their names; what is left over is returned too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from nuclei_train.data.annotations.formats import LABEL_IMAGE, AnnotationFormat
from nuclei_train.data.layouts.places import annotation_keys, identifier_of, image_keys
from nuclei_train.errors import DatasetError

_SHOWN = 3


@dataclass(frozen=True)
class Pair:
    """An image and what annotates it.

    Attributes
    ----------
    level : PurePosixPath
        The folder of its data set.
    split : str
        That the folders give; empty if they give none.
    image_id : str
    image : PurePosixPath
    annotations : tuple of PurePosixPath
        None if nothing annotates the image.
    form : AnnotationFormat
    """

    level: PurePosixPath
    split: str
    image_id: str
    image: PurePosixPath
    annotations: tuple[PurePosixPath, ...] = ()
    form: AnnotationFormat = LABEL_IMAGE


@dataclass
class Found:
    """What a layout found.

    Attributes
    ----------
    pairs : list of Pair
    unpaired : list of (PurePosixPath, str)
        The level and the name of each annotation that belongs to no image.
    used : set of PurePosixPath
        All files that belong to this layout; no later layout sees them.
    notes : list of str
        Sentences for the user.
    """

    pairs: list[Pair] = field(default_factory=list)
    unpaired: list[tuple[PurePosixPath, str]] = field(default_factory=list)
    used: set[PurePosixPath] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)

    def add(self, other: Found) -> None:
        """Add what was found elsewhere."""
        self.pairs.extend(other.pairs)
        self.unpaired.extend(other.unpaired)
        self.used.update(other.used)
        self.notes.extend(other.notes)


def pair_by_name(
    level: PurePosixPath,
    split: str,
    images: Sequence[PurePosixPath],
    annotations: Sequence[PurePosixPath],
    *,
    beside: bool,
) -> Found:
    """Pair each image with the annotation of its name.

    Names are compared without suffixes, without the marks of `nuclei_train.data.annotations.formats`, and with accents
    in composed form (NFC): a Mac may write them decomposed.

    Parameters
    ----------
    level, split
        See `Pair`.
    images, annotations : sequence of PurePosixPath
    beside : bool
        Whether the annotations lie among the images.

    Raises
    ------
    DatasetError
        Two images have one name, or two annotations belong to one image.
    """
    by_key: dict[str, PurePosixPath] = {}
    for best in (True, False):  # an image whose full name fits goes before one that has a mark
        for image in images:
            first, *others = image_keys(image)
            for key in [first] if best else others:
                clash = by_key.setdefault(key, image)
                if clash != image and best:
                    raise twice(clash, image)
    found: dict[PurePosixPath, list[tuple[PurePosixPath, AnnotationFormat]]] = {}
    unpaired = []
    for annotation in annotations:
        keys = list(annotation_keys(annotation, beside=beside))
        fitting = next(((by_key[key], form) for key, form in keys if key in by_key), None)
        if fitting is not None:
            found.setdefault(fitting[0], []).append((annotation, fitting[1]))
        elif any(annotation.suffix.lower() not in form.shared or not beside for _, form in keys):
            unpaired.append((level, str(annotation)))
    pairs = []
    for image in images:
        own = found.get(image, [])
        own = [one for one in own if one[1].reader is not None] or own[:1]  # a refused file counts only alone
        if len(own) > 1:
            raise twice(own[0][0], own[1][0])
        if own:
            pairs.append(Pair(level, split, identifier_of(image), image, (own[0][0],), own[0][1]))
        else:
            pairs.append(Pair(level, split, identifier_of(image), image))
    return Found(pairs, unpaired, {*images, *annotations})


def twice(one: PurePosixPath, other: PurePosixPath) -> DatasetError:
    """Return the error that two files stand for the same."""
    return DatasetError(f"{one} and {other} have the same identifier; expected one file, remove the other")


def some(names: Sequence[str]) -> str:
    """Return the first of some names for a message."""
    return ", ".join([*names[:_SHOWN], "..."] if len(names) > _SHOWN else names)
