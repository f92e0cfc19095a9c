"""DATA -> one file with everything that a training reads."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import tifffile

from nuclei_runtime.arrays import Labels
from nuclei_train.data.binary_masks import refuse_binary_masks
from nuclei_train.data.joining import join
from nuclei_train.data.opening import open_for_training
from nuclei_train.data.packed import PACK_FILE, VERSION
from nuclei_train.data.samples import Dataset, Sample
from nuclei_train.data.split import select
from nuclei_train.data.split_table import SPLIT_FILE, SplitTable
from nuclei_train.data.stopping import check_oddities
from nuclei_train.data.truth import read_with_truth
from nuclei_train.errors import DatasetError

_EARLIEST = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip can record, for every entry: the same data give the same bytes."""


@dataclass(frozen=True)
class Packed:
    """What was packed.

    Attributes
    ----------
    n_images : int
    left_out : dict
        How many images were left out for each reason; none for a reason that does not occur.
    size_bytes : int
        Of the file.
    digest : str
        Its SHA-256, in hexadecimal.
    """

    n_images: int
    left_out: dict[str, int]
    size_bytes: int
    digest: str


def pack(
    data: Sequence[Path],
    file: Path,
    say: Callable[[str], None],
    progress: Callable[[int, int], None],
    *,
    accept_oddities: bool = False,
) -> Packed:
    """Write the images for fitting and validation, their labels and the split table into one file.

    With a split table, its splits ``train`` and ``val`` are packed; without one, every image that has masks. `file`
    appears under its name only when it is complete.

    Parameters
    ----------
    data : sequence of Path
        One or several DATA; see `nuclei_train.data.finding`. Several become one data set with the name of the file:
        see `nuclei_train.data.joining`.
    file : Path
        To be made; a ``.zip``.
    say : callable
        Takes a sentence for the user.
    progress : callable
        Takes the number of images packed and the total, after each image.
    accept_oddities : bool
        Pack even data with the oddities `nuclei_train.data.oddities.STOPPING`, on which a training would stop. Not all
        of them show in the file.

    Raises
    ------
    DatasetError
        DATA is not understood, has such oddities or binary masks, an image cannot be used, or `file` already exists or
        would be taken for data.
    """
    for one in data:
        _check_file(one, file)
    sources = [open_for_training(one, say) for one in data]
    for dataset, table in sources:
        samples = select(dataset, table)
        refuse_binary_masks(samples)
        check_oddities(dataset, samples, lambda: None, say, accept=accept_oddities)
    dataset, table = join(sources, file.stem)
    samples = sorted(select(dataset, table), key=lambda sample: sample.image_id)
    part = file.with_name(file.name + ".part")
    try:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
            writer = _Writer(archive)
            if table is not None and not table.draws_validation:  # the run draws the same images again
                writer.add(SPLIT_FILE, table.content)
            entries = []
            for done, sample in enumerate(samples, start=1):
                entries.append(_pack_sample(writer, dataset, sample))
                progress(done, len(samples))
            left_out = _left_out(sources)
            writer.add(PACK_FILE, _manifest(dataset.name, sum(left_out.values()), entries, writer.digests))
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
    with file.open("rb") as packed:
        digest = hashlib.file_digest(packed, "sha256").hexdigest()
    return Packed(len(samples), left_out, file.stat().st_size, digest)


def _left_out(sources: Sequence[tuple[Dataset, SplitTable | None]]) -> dict[str, int]:
    """Return how many images of the data sets are not packed, by reason."""
    reasons: Counter[str] = Counter()
    for dataset, table in sources:
        n_with_truth = sum(sample.has_truth for sample in dataset.samples)
        divided_by = SPLIT_FILE if table is not None and table.source == SPLIT_FILE else "the folders"
        where = f"in neither train nor val of {divided_by}"
        reasons["without masks"] += len(dataset.samples) - n_with_truth
        reasons[where] += n_with_truth - len(select(dataset, table))
        reasons["that an earlier packing had left out"] += dataset.n_left_out
    return {reason: n for reason, n in reasons.items() if n}


class _Writer:
    """Adds files to a zip and remembers their digests."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self.digests: dict[str, str] = {}

    def add(self, name: str, content: bytes) -> None:
        self._archive.writestr(zipfile.ZipInfo(name, _EARLIEST), content)
        self.digests[name] = hashlib.sha256(content).hexdigest()


def _check_file(data: Path, file: Path) -> None:
    if file.suffix.lower() != ".zip":
        raise DatasetError(f"{file}: a packed file is a zip; name it {file.name}.zip")
    if file.exists():
        raise DatasetError(f"{file}: already exists; choose another file, or delete it")
    if data.is_dir() and data.resolve() in file.resolve().parents:
        raise DatasetError(f"{file}: is in {data} and would be taken for part of the data; choose another folder")
    if not file.resolve().parent.is_dir():
        raise DatasetError(f"{file}: its folder does not exist; create it first")


def _pack_sample(writer: _Writer, dataset: Dataset, sample: Sample) -> dict[str, str]:
    """Add a sample's image file, unchanged, and its labels; return the sample's entry for pack.json."""
    _, labels = read_with_truth(sample)
    image = f"{dataset.name}/images/{sample.image_id}{PurePosixPath(sample.image_name).suffix}"
    packed_labels = f"{dataset.name}/masks/{sample.image_id}.tif"
    writer.add(image, sample.read_file(sample.image_name))
    writer.add(packed_labels, _encode(labels))
    return {"image_id": sample.image_id, "image": image, "labels": packed_labels, "digest": sample.digest()}


def _encode(labels: Labels) -> bytes:
    """Return a label image as a deflated TIFF."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, labels, photometric="minisblack", compression="zlib", metadata=None)
    return buffer.getvalue()


def _manifest(name: str, n_left_out: int, samples: list[dict[str, str]], digests: dict[str, str]) -> bytes:
    content: dict[str, Any] = {
        "version": VERSION,
        "dataset": name,
        "images_left_out": n_left_out,
        "samples": samples,
        "files": digests,
    }
    return json.dumps(content, indent=1, ensure_ascii=False).encode()
