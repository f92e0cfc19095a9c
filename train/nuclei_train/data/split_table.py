"""``splits.csv``: the table next to the data that gives each image's split and modality."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from nuclei_train.data.archive import data_zips
from nuclei_train.data.composed import composed
from nuclei_train.data.packed import read_packed
from nuclei_train.data.samples import Dataset
from nuclei_train.errors import DatasetError

COLUMNS = ("image_id", "split", "modality")
SPLIT_FILE = "splits.csv"
FORMER_SPLIT_FILE = "images.csv"
"""Read where there is no `SPLIT_FILE`."""


@dataclass(frozen=True)
class SplitTable:
    """The split and the modality of each image.

    Attributes
    ----------
    path : Path
        For a table in a packed file, a path below that file.
    content : bytes
        The file's bytes.
    split, modality : dict of str to str
        By image identifier, stripped of surrounding blanks; splits are in lower case.
    draws_validation : bool
        Whether part of ``train`` is used for validation, because folders gave the split and there is none for that.
    source : str
        What gave the split: ``splits.csv``, for a table of either name, or ``folders``.
    """

    path: Path
    content: bytes
    split: dict[str, str]
    modality: dict[str, str]
    draws_validation: bool = False
    source: str = SPLIT_FILE

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the file, in hexadecimal."""
        return hashlib.sha256(self.content).hexdigest()


def read_split_table(data: Path) -> SplitTable | None:
    """Read ``splits.csv`` inside or next to DATA; without one, ``images.csv``, as the table was called before.

    A table in a packed file takes precedence over any table next to it.

    Returns
    -------
    SplitTable or None
        None if there is no table, or if it gives no image a split.

    Raises
    ------
    DatasetError
        Two packed files contain a table; or the file is not CSV, lacks one of the columns image_id, split and
        modality, or puts an image in two splits.
    """
    found = _find_packed(data) or _find_file(data)
    if found is None:
        return None
    path, content = found
    try:
        reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), restval="")
        header = reader.fieldnames or ()
        missing = set(COLUMNS) - set(header)
        rows = [{name: composed(row.get(name, "").strip()) for name in COLUMNS} for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path}: cannot be read as a split table: {error}; expected CSV in UTF-8") from error
    if missing:
        raise DatasetError(
            f"{path}: expected the comma-separated columns image_id, split and modality; the first line, "
            f"{','.join(header)!r}, lacks {', '.join(sorted(missing))}; add what is missing, "
            "or rename the file if it is not the split table"
        )
    split: dict[str, str] = {}
    for row in rows:
        side = row["split"].lower()
        if split.setdefault(row["image_id"], side) != side:
            raise DatasetError(
                f"{path}: {row['image_id']} is in the splits {split[row['image_id']]!r} and {side!r}; "
                "an image belongs to one split"
            )
    if not any(split.values()):
        return None
    return SplitTable(path, content, split, modality={row["image_id"]: row["modality"] for row in rows})


def split_of_folders(data: Path, datasets: Sequence[Dataset]) -> SplitTable | None:
    """Return the split that the folders ``train``, ``val`` and ``test`` give; None if all images are in one of them.

    Without a folder ``train``, the annotated images of a data set that are in no such folder are ``train``.
    """
    split: dict[str, str] = {}
    for dataset in datasets:
        own = {one.image_id: one.split for one in dataset.samples if one.split}
        if own and "train" not in own.values():
            own |= {one.image_id: "train" for one in dataset.samples if not one.split and one.has_truth}
        split |= own
    sides = set(split.values())
    if len(sides) < 2:
        return None
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *([name, side, ""] for name, side in split.items())])
    return SplitTable(data, text.getvalue().encode(), split, dict.fromkeys(split, ""), "val" not in sides, "folders")


def _find_packed(data: Path) -> tuple[Path, bytes] | None:
    """Return the table in a packed file, or None."""
    found = []
    for file in data_zips(data):
        for name in (SPLIT_FILE, FORMER_SPLIT_FILE):
            content = read_packed(file, name)
            if content is not None:
                found.append((file / name, content))
                break
    if len(found) > 1:
        paths = " and ".join(str(path) for path, _ in found)
        raise DatasetError(f"{data}: found {paths}, expected one split table; name the packed file to use")
    return found[0] if found else None


def _find_file(data: Path) -> tuple[Path, bytes] | None:
    """Return the table in the folder DATA or in the folder that contains DATA, or None."""
    data = data.resolve()
    folders = (data, data.parent) if data.is_dir() else (data.parent,)
    candidates = (folder / name for name in (SPLIT_FILE, FORMER_SPLIT_FILE) for folder in folders)
    path = next((path for path in candidates if path.is_file()), None)
    if path is None:
        return None
    try:
        return path, path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read as a split table: {error}; expected CSV in UTF-8") from error
