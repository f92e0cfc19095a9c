"""``images.csv``: the table beside the data that says which split and which modality each image belongs to."""

from __future__ import annotations

import csv
import hashlib
import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from nuclei_train.data.archive import zips_of
from nuclei_train.data.packed import read_packed
from nuclei_train.errors import DatasetError

COLUMNS = ("image_id", "split", "modality")
SPLIT_FILE = "images.csv"
"""Beside the zips: columns image_id, modality and split, by microscope field."""


@dataclass(frozen=True)
class SplitTable:
    """``images.csv``: which split and which modality each image belongs to.

    Attributes
    ----------
    path : Path
        Within a packed file, below that file.
    content : bytes
        Of the file.
    split, modality : dict of str to str
        By image identifier, without blanks around them; splits in lower case.
    """

    path: Path
    content: bytes
    split: dict[str, str]
    modality: dict[str, str]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the file, in hexadecimal."""
        return hashlib.sha256(self.content).hexdigest()


def split_table_folders(data: Path) -> tuple[Path, ...]:
    """Return the folders in which DATA's ``images.csv`` is looked for, in order: DATA itself, and what it lies in."""
    data = data.resolve()
    return (data, data.parent) if data.is_dir() else (data.parent,)


def read_split_table(data: Path) -> SplitTable | None:
    """Read ``images.csv`` beside or inside DATA; None where there is none, or where it gives no image a split.

    The table in a packed file is the one that counts, whatever lies beside it.

    Raises
    ------
    DatasetError
        Two packed files have one; or the file is not CSV, lacks one of the columns image_id, split and modality, or
        puts an image on two sides.
    """
    tables = ((path / SPLIT_FILE, read_packed(path, SPLIT_FILE)) for path in zips_of(data))
    packed = {path: content for path, content in tables if content is not None}
    if len(packed) > 1:
        found = " and ".join(map(str, packed))
        raise DatasetError(f"{data}: found {found}, expected one table of splits; name the packed file that is meant")
    candidates = (folder / SPLIT_FILE for folder in split_table_folders(data))
    path = next(iter([*packed, *(one for one in candidates if one.is_file())]), None)
    if path is None:
        return None
    try:
        content = packed[path] if path in packed else path.read_bytes()
        reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), restval="")
        header = reader.fieldnames or ()
        missing = set(COLUMNS) - set(header)
        rows = [{name: row.get(name, "").strip() for name in COLUMNS} for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path}: cannot be read as a table of images: {error}; expected CSV in UTF-8") from error
    if missing:
        raise DatasetError(
            f"{path}: expected the columns image_id, split and modality between commas, {', '.join(sorted(missing))} "
            f"missing in the first line, {','.join(header)!r}; add them, or rename the file if it is not the data's "
            "table of splits"
        )
    split: dict[str, str] = {}
    for row in rows:
        side = row["split"].lower()
        if split.setdefault(row["image_id"], side) != side:
            raise DatasetError(
                f"{path}: {row['image_id']} is in the splits {split[row['image_id']]!r} and {side!r}; "
                "an image belongs to one"
            )
    if not any(split.values()):
        return None
    return SplitTable(path, content, split, modality={row["image_id"]: row["modality"] for row in rows})
