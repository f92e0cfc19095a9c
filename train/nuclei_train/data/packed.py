"""The file that `nuclei-pack` makes: a zip of unchanged image files, label images and what a training must know.

pack.json                    version, dataset, number of images left out, the samples, the SHA-256 of every file
splits.csv                   the split table, if the data came with one (images.csv in older packs)
DATASET/images/ID.SUFFIX     the image file, unchanged
DATASET/masks/ID.tif         its masks as one label image

The zip stores its entries uncompressed, because they are compressed already.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from nuclei_runtime.json_fields import Fields, is_int, parse_json
from nuclei_train.data.annotations.formats import LABEL_IMAGE
from nuclei_train.data.samples import Dataset, Sample
from nuclei_train.data.stores import ZipStore
from nuclei_train.errors import ArchiveError

PACK_FILE = "pack.json"
VERSION = 1
MAX_SAMPLES = 1_000_000


class PackedStore:
    """The files of a pack, each checked against the SHA-256 recorded in the pack.

    Parameters
    ----------
    path : Path
    store : ZipStore
    digests : dict of str to str
        By name, in hexadecimal.
    """

    def __init__(self, path: Path, store: ZipStore, digests: dict[str, str]) -> None:
        self._path, self._store, self._digests = path, store, digests

    def names(self) -> list[str]:
        """Return the name of every file."""
        return list(self._digests)

    def read(self, name: str) -> bytes:
        """Return the content of one file.

        Raises
        ------
        ArchiveError
            It is missing, or is not what was packed.
        """
        if name not in self._digests or name not in self._store.names():
            raise ArchiveError(f"{self._path}: {name!r} is missing; pack the data again, or copy the file again")
        content = self._store.read(name)
        if hashlib.sha256(content).hexdigest() != self._digests[name]:
            raise ArchiveError(
                f"{self._path}: {name!r} is not what was packed (its SHA-256 differs); pack the data again, or copy "
                "the file again"
            )
        return content


def is_pack(store: ZipStore) -> bool:
    """Whether a zip is one that nuclei-pack made."""
    return PACK_FILE in store.names()


def open_pack(path: Path, store: ZipStore) -> Dataset:
    """Return the dataset in a pack. Its digests and its number of images are those of the original data.

    Raises
    ------
    ArchiveError
        The pack is damaged, or of another version.
    """
    fields, packed = _read_pack(path, store)
    name = fields.text("dataset")
    n_left_out = int(fields.take("images_left_out", lambda n: is_int(n) and n >= 0, "a whole number", 0))
    samples = []
    for sample in fields.objects("samples", MAX_SAMPLES):
        names = sample.text("image"), sample.text("labels")
        samples.append(Sample(sample.text("image_id"), names[0], names[1:], LABEL_IMAGE, packed, sample.text("digest")))
        sample.close()
    fields.close()
    _check(path, fields.problems)
    missing = [name for sample in samples for name in (sample.image_name, *sample.mask_names)]
    missing = sorted({*missing, *packed.names()} - set(store.names()))
    if missing:
        raise ArchiveError(f"{path}: {missing[0]!r} is missing; pack the data again, or copy the file again")
    return Dataset(name, path, tuple(samples), n_left_out)


def read_packed(path: Path, name: str) -> bytes | None:
    """Return the content of one file of a pack; None if there is none of that name, or the zip is not a pack.

    Raises
    ------
    ArchiveError
        The zip is damaged, or is a pack of another version.
    """
    store = ZipStore(path)
    if not is_pack(store) or name not in store.names():
        return None
    return _read_pack(path, store)[1].read(name)


def _read_pack(path: Path, store: ZipStore) -> tuple[Fields, PackedStore]:
    """Read pack.json up to the digests."""
    if store.content_bytes() > path.stat().st_size:  # a pack is uncompressed, so it cannot unpack to more than its size
        raise ArchiveError(
            f"{path}: claims to contain more than its own size; pack the data again, or copy the file again"
        )
    problems: list[str] = []
    try:
        text = store.read(PACK_FILE).decode("utf-8")
    except UnicodeDecodeError as error:
        problems.append(f"$: not UTF-8: {error}")
        text = "{}"
    fields = Fields(parse_json(text, problems), "$", problems)
    fields.take("version", lambda v: is_int(v) and v == VERSION, f"{VERSION}", VERSION)
    digests = fields.texts_by_name("files")
    _check(path, problems)
    return fields, PackedStore(path, store, digests)


def _check(path: Path, problems: list[str]) -> None:
    if problems:
        shown = "; ".join(problems[:3])
        raise ArchiveError(
            f"{path}: {PACK_FILE} is not what nuclei-pack writes: {shown}; pack the data again with this version"
        )
