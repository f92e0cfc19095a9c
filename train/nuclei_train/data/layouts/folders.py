"""Images in one folder, their annotations in another: ``images/NAME.tif`` or ``NAME.tif``, and ``masks/NAME.tif``.

The folders are those of `nuclei_train.data.layouts.places.ROLES`: StarDist's, ZeroCostDL4Mic's and ``labels``. Folders
``train``, ``val`` and ``test``, outside or inside, give the split.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from nuclei_train.data.layouts.pairing import Found, pair_by_name
from nuclei_train.data.layouts.places import ANNOTATIONS, IMAGES, annotation_keys, is_image, place_of
from nuclei_train.data.stores import Store


def find_two_folders(files: Sequence[PurePosixPath], name: str, store: Store) -> Found:  # noqa: ARG001
    """Find the images in folders for images, with the annotations in the folders next to these.

    Raises
    ------
    DatasetError
        See `nuclei_train.data.layouts.pairing.pair_by_name`.
    """
    groups: dict[tuple[PurePosixPath, str], tuple[list[PurePosixPath], list[PurePosixPath]]] = {}
    loose: dict[tuple[PurePosixPath, str], list[PurePosixPath]] = {}
    for file in files:
        place = place_of(file)
        if not place.role and is_image(file):
            loose.setdefault((place.level, place.split), []).append(file)
        if place.role:
            images, annotations = groups.setdefault((place.level, place.split), ([], []))
            if place.role == IMAGES and is_image(file):
                images.append(file)
            elif place.role == ANNOTATIONS and any(annotation_keys(file, beside=False)):
                annotations.append(file)
    found = Found()
    for (level, split), (images, annotations) in groups.items():
        images = images or loose.get((level, split), [])  # those beside the folder of their annotations
        if images and annotations:
            found.add(pair_by_name(level, split, images, annotations, beside=False))
    return found


def find_images_alone(files: Sequence[PurePosixPath], name: str, store: Store) -> Found:  # noqa: ARG001
    """Find the images in folders for images that nothing annotates, such as a test set."""
    groups: dict[tuple[PurePosixPath, str], list[PurePosixPath]] = {}
    for file in files:
        place = place_of(file)
        if place.role == IMAGES and is_image(file):
            groups.setdefault((place.level, place.split), []).append(file)
    found = Found()
    for (level, split), images in groups.items():
        found.add(pair_by_name(level, split, images, (), beside=False))
    return found
