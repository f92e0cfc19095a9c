"""A results folder of nuclei-infer whose labels or outlines were corrected, beside the images that they belong to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from nuclei_runtime.results.layout import PROVENANCE_FILE, RECORDS_FOLDER, result_stem
from nuclei_runtime.writers.outputs import LABEL_FORMS, LABELS
from nuclei_train.data.annotations.formats import FORMATS
from nuclei_train.data.composed import composed
from nuclei_train.data.layouts.pairing import Found, Pair, twice
from nuclei_train.data.layouts.places import identifier_of, is_image
from nuclei_train.data.stores import Store
from nuclei_train.errors import DatasetError


def results_folders(files: Iterable[PurePosixPath]) -> set[PurePosixPath]:
    """Return the results folders; one into which the images were copied counts as two folders of images and labels."""
    known = set(files)
    folders = {file.parent for file in known if file.name == PROVENANCE_FILE}
    copied = {file.parent.parent for file in known if file.parent.name == "images"}
    return {folder for folder in folders if folder not in copied}


def is_within(file: PurePosixPath, folders: Iterable[PurePosixPath]) -> bool:
    """Whether a file lies in one of these folders."""
    return any(folder in file.parents for folder in folders)


def find_results(files: Sequence[PurePosixPath], name: str, store: Store) -> Found:  # noqa: ARG001
    """Find label images of results folders that belong to images beside the folder.

    A label image is named as its image, with the folders between it and the folder that nuclei-infer was given. If the
    outlines of an image (``geojson``, ``roi``) were changed since the run, they count instead, as for nuclei-measure.

    Raises
    ------
    DatasetError
        Two images fit one label image, or two label images one image; or an image was corrected in two places.
    """
    folders = results_folders(files)
    images = [file for file in files if is_image(file) and not is_within(file, folders)]
    found = Found()
    for folder in sorted(folders):
        found.add(_corrected(folder, files, images, store))
    known = {pair.image.parent: pair for pair in found.pairs}
    for image in images:
        if image.parent in known and image not in found.used:
            found.pairs.append(Pair(known[image.parent].level, "", identifier_of(image), image))
            found.used.add(image)
    return found


def _corrected(
    folder: PurePosixPath, files: Sequence[PurePosixPath], images: Sequence[PurePosixPath], store: Store
) -> Found:
    found = Found()
    by_stem: dict[str, list[PurePosixPath]] = {}
    for image in images:
        if folder.parent in image.parents:
            inner = image.relative_to(folder.parent)
            for parts in (inner.parts, inner.with_suffix("").parts):
                for start in range(len(parts)):
                    by_stem.setdefault(composed(result_stem("/".join(parts[start:]))), []).append(image)
    known, names = set(files), {composed(image.name) for image in images}
    written = _written(folder, files, store)
    n_unchanged = n_outlines = 0

    def is_changed(result: PurePosixPath) -> bool:
        found = written.get(str(result.relative_to(folder)))
        return found is not None and _digest(store, result) != found.sha256

    for label in files:
        if folder / LABELS.folder not in label.parents or not is_image(label):
            continue
        stem = str(label.relative_to(folder / LABELS.folder).with_suffix(""))
        fitting = list(dict.fromkeys(by_stem.get(composed(stem), ())))
        made = written.get(str(label.relative_to(folder)))
        if made is not None and made.image in names:  # the label image of a frame may have the name of another image
            fitting = [image for image in fitting if composed(image.name) == made.image]
        if len(fitting) > 1 and made is not None:  # the same name in several folders
            of_run = [image for image in fitting if _digest(store, image) == made.source]
            depth = min((len(image.parts) for image in of_run), default=0)
            fitting = [image for image in of_run if len(image.parts) == depth] or fitting
        if len(fitting) > 1:
            raise twice(fitting[0], fitting[1])
        if not fitting:
            found.unpaired.append((folder.parent, str(label)))
            continue
        if fitting[0] in found.used:
            raise twice(label, fitting[0])
        outlines = [folder / one.folder / f"{stem}{one.ending}" for one in LABEL_FORMS if one is not LABELS]
        corrected = [one for one in (label, *outlines) if one in known and is_changed(one)]
        if len(corrected) > 1:
            raise DatasetError(
                f"{' and '.join(map(str, corrected))} were both changed since the run; move those away that are not "
                "the truth"
            )
        truth = corrected[0] if corrected else label
        form = next(form for form in FORMATS if form.reader is not None and truth.suffix.lower() in form.suffixes)
        found.pairs.append(Pair(folder.parent, "", composed(stem.replace("/", "_")), fitting[0], (truth,), form))
        found.used.update((label, *outlines, fitting[0]))
        n_unchanged += not corrected and str(label.relative_to(folder)) in written
        n_outlines += truth != label
    if not found.pairs:
        return Found()
    found.notes.append(
        f"{folder / LABELS.folder}: {len(found.pairs)} label images of a results folder are taken as the truth; "
        f"{n_unchanged} of them are as nuclei-infer wrote them"
        + (": remove those that nobody has checked" if n_unchanged else "")
        + (f"; for {n_outlines}, outlines were corrected, which count instead" if n_outlines else "")
    )
    return found


class _Written(NamedTuple):
    """The SHA-256 of what nuclei-infer wrote, and of its image the name without the folders and the SHA-256.

    The name and the SHA-256 of the image are None if they are unknown.
    """

    sha256: str
    image: str | None
    source: str | None


def _digest(store: Store, file: PurePosixPath) -> str:
    return hashlib.sha256(store.read(str(file))).hexdigest()


def _written(folder: PurePosixPath, files: Sequence[PurePosixPath], store: Store) -> dict[str, _Written]:
    """Return everything that nuclei-infer wrote there, by path, as its records say."""
    written: dict[str, _Written] = {}
    for file in files:
        if file.parent == folder / RECORDS_FOLDER and file.suffix == ".json":
            try:
                record = json.loads(store.read(str(file)).decode("utf-8", "replace"))
                image = composed(PurePosixPath(record["image"]).name) if "image" in record else None
                source = (record.get("source") or {}).get("sha256")
                written |= {name: _Written(sha256, image, source) for name, sha256 in record["results"].items()}
            except (ValueError, KeyError, TypeError, AttributeError):  # a damaged record says nothing
                continue
    return written
