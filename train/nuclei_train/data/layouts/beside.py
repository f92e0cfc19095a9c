"""Annotations beside their images: Cellpose's ``NAME.tif`` and ``NAME_masks.tif``, QuPath's ``NAME.geojson``.

Also ``NAME_rois.zip`` and ``NAME.roi`` of ImageJ. In such a folder, everything without a mark is an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from nuclei_train.data.layouts.pairing import Found, pair_by_name
from nuclei_train.data.layouts.places import ANNOTATIONS, annotation_keys, is_image, place_of
from nuclei_train.data.stores import Store

_BY_PRODUCTS = ("_flows", "_cp_output", "_outlines", "_cp_outlines")


def find_side_by_side(files: Sequence[PurePosixPath], name: str, store: Store) -> Found:  # noqa: ARG001
    """Find the folders that contain both images and annotations of images.

    Raises
    ------
    DatasetError
        See `nuclei_train.data.layouts.pairing.pair_by_name`.
    """
    folders: dict[PurePosixPath, tuple[list[PurePosixPath], list[PurePosixPath]]] = {}
    annotation_folders = {(place.level, place.split) for place in map(place_of, files) if place.role == ANNOTATIONS}
    for file in files:
        place = place_of(file)
        if place.role and (place.role == ANNOTATIONS or (place.level, place.split) in annotation_folders):
            continue
        images, annotations = folders.setdefault(file.parent, ([], []))
        if any(annotation_keys(file, beside=True)):
            annotations.append(file)
        elif is_image(file) and not is_by_product(file):
            images.append(file)
    found = Found()
    for folder, (images, annotations) in folders.items():
        if images and annotations:
            place = place_of(folder / "NAME")
            found.add(pair_by_name(place.level, place.split, images, annotations, beside=True))
    # A folder of pictures in which only a JSON or a zip of something else lies is no data set.
    return found if any(pair.annotations for pair in found.pairs) or found.unpaired else Found()


def is_by_product(file: PurePosixPath) -> bool:
    """Whether a picture is, by its name, one that Cellpose writes beside its masks."""
    return file.stem.lower().endswith(_BY_PRODUCTS)
