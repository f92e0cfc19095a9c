"""COCO JSON, which lists images by name: ``annotations/instances_train.json``, ``_annotations.coco.json``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from nuclei_train.data.annotations.coco import find_image, list_images
from nuclei_train.data.annotations.formats import COCO
from nuclei_train.data.layouts.pairing import Found, Pair, twice
from nuclei_train.data.layouts.places import ANNOTATIONS, identifier_of, is_image, place_of, split_of
from nuclei_train.data.stores import Store
from nuclei_train.errors import DatasetError

_SIGN = b'"file_name"'


def find_listed(files: Sequence[PurePosixPath], name: str, store: Store) -> Found:  # noqa: ARG001
    """Find the images that COCO files list, in the folder of the file or, if that is ``annotations``, in the one above.

    The split is that of the image's folder, or else of the COCO file's name.

    Raises
    ------
    DatasetError
        A COCO file is damaged, two list the same image, or two images fit one name.
    """
    found = Found()
    for file in files:
        if file.suffix.lower() == ".json" and _SIGN in (content := store.read(str(file))):
            found.add(_listed_in(file, content, [one for one in files if one not in found.used]))
    if not any(pair.annotations for pair in found.pairs):
        return Found()
    folders = {pair.image.parent: pair for pair in found.pairs}
    for image in files:
        if image.parent in folders and is_image(image) and image not in found.used:
            like = folders[image.parent]
            found.pairs.append(Pair(like.level, like.split, identifier_of(image), image))
            found.used.add(image)
    return found


def _listed_in(file: PurePosixPath, content: bytes, files: Sequence[PurePosixPath]) -> Found:
    listed = list_images(content, str(file))
    place = place_of(file)
    root = place.level if place.role == ANNOTATIONS else file.parent
    split = place.split or next(filter(None, map(split_of, re.split(r"[^a-z0-9]+", file.stem.lower()))), "")
    found = Found(used={file})
    owners: dict[str, PurePosixPath] = {}
    for image in files:
        its = place_of(image)
        if not is_image(image) or not image.is_relative_to(root) or (split and its.split and its.split != split):
            continue
        entry = find_image(listed, str(image))
        if entry is None:
            continue
        if owners.setdefault(entry.file_name, image) != image:
            raise twice(owners[entry.file_name], image)
        found.pairs.append(Pair(its.level, its.split or split, identifier_of(image), image, (file,), COCO))
        found.used.add(image)
    level = found.pairs[0].level if found.pairs else root
    found.unpaired.extend((level, f"{file}: {entry.file_name}") for entry in listed if entry.file_name not in owners)
    if not found.pairs and listed:
        raise DatasetError(
            f"{file}: lists {len(listed)} images, of which none is in {root if root.name else 'the data'}; the first "
            f"is {listed[0].file_name}; put the images there"
        )
    return found
