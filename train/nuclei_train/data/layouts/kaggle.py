"""Kaggle's layout, of the Data Science Bowl 2018: ``ID/images/ID.png`` and ``ID/masks/*.png``, one nucleus per mask."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from nuclei_train.data.annotations.formats import MASK_PER_NUCLEUS
from nuclei_train.data.composed import composed
from nuclei_train.data.layouts.pairing import Found, Pair
from nuclei_train.data.layouts.places import identifier_of, is_image, split_of
from nuclei_train.data.stores import Store


def find_folder_per_image(files: Sequence[PurePosixPath], name: str, store: Store) -> Found:  # noqa: ARG001
    """Find the images in a folder of their own name; an image without masks has no annotation."""
    images = [
        file
        for file in files
        if file.parent.name == "images"
        and is_image(file)
        and composed(file.parent.parent.name or name) == identifier_of(file)
    ]
    folders = {image.parent.parent for image in images}
    masks: dict[PurePosixPath, list[PurePosixPath]] = {}
    for file in files:
        if file.parent.name == "masks" and is_image(file) and file.parent.parent in folders:
            masks.setdefault(file.parent.parent, []).append(file)
    pairs = []
    for image in images:
        folder = image.parent.parent
        split = split_of(folder.parent.name.lower())
        level = folder.parent.parent if split else folder.parent
        own = tuple(sorted(masks.get(folder, ()), key=str))
        pairs.append(Pair(level, split, identifier_of(image), image, own, MASK_PER_NUCLEUS))
    return Found(pairs, used={*images, *(mask for own in masks.values() for mask in own)})
