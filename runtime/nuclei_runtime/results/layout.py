"""What lies where in a results folder.

DIR/labels/STEM.tif       each nucleus has its number, 0 is background
DIR/overlays/STEM.png     the image with the nuclei outlined
DIR/tables/STEM.csv       a row a nucleus of this image
DIR/records/TOKEN.json    what became of an image file; see `nuclei_runtime.results.records`
DIR/nuclei.csv            a row a nucleus, joined from the tables
DIR/images.csv            a row an image, joined from the records
DIR/provenance.json       what the run was made with
DIR/.nuclei-partial/      what is not whole yet
DIR/.nuclei-lock-1-of-1   while a process is at work; see `nuclei_runtime.results.lock`

A file of several planes has a label image and an overlay for each: STEM_t000_z00.tif.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

from nuclei_runtime.errors import ResultsExistError
from nuclei_runtime.writers.outputs import OUTPUTS, Output

RECORDS_FOLDER, PARTIAL_FOLDER = "records", ".nuclei-partial"
NUCLEI_TABLE, IMAGES_TABLE, PROVENANCE_FILE = "nuclei.csv", "images.csv", "provenance.json"

_ENDINGS = {output.folder: output.ending for output in OUTPUTS}

RESULT_FOLDERS = (*_ENDINGS, RECORDS_FOLDER)
"""The folders with files of single images."""

_MAX_NAME_BYTES = 255
"""What the common file systems take."""

_MARK_LENGTH, _TOKEN_LENGTH = 8, 32


def token_of(name: str) -> str:
    """Return what stands for an image's name where the name itself may not: too long, no text, a name of Windows'.

    32 hexadecimal digits of the SHA-256 of the name.
    """
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_TOKEN_LENGTH]


def result_path(output: Output, stem: str, suffix: str = "") -> str:
    """Return where a result lies, relative to the results folder, with ``/``.

    Parameters
    ----------
    output : Output
    stem : str
        `nuclei_runtime.runs.inputs.ImageFile.stem`.
    suffix : str
        `nuclei_runtime.readers.plane.Plane.suffix`; nothing for a result of the whole file.
    """
    ending = suffix + output.ending
    path = PurePosixPath(output.folder, stem + ending)
    if len(path.name.encode()) > _MAX_NAME_BYTES:
        ending = f"~{token_of(stem)[:_MARK_LENGTH]}{ending}"
        kept = PurePosixPath(stem).name.encode()[: _MAX_NAME_BYTES - len(ending)].decode(errors="ignore")
        path = path.with_name(kept + ending)
    return path.as_posix()


def is_inside(path: str) -> bool:
    """Whether a path that a record names lies in a folder of the results folder, on every system."""
    parts = PurePosixPath(path).parts
    return len(parts) > 1 and parts[0] != "/" and ".." not in parts and "\\" not in path and ":" not in parts[0]


def is_result(path: str) -> bool:
    """Whether a path that a record names is one that `result_path` gives."""
    folder = PurePosixPath(path).parts[0] if is_inside(path) else ""
    return folder in _ENDINGS and path.endswith(_ENDINGS[folder])


def record_path(out: Path, token: str) -> Path:
    """Return where the record of an image lies."""
    return out / RECORDS_FOLDER / f"{token}.json"


def recorded_tokens(out: Path) -> Iterator[str]:
    """Yield the token of each image of which there is a record, in no order."""
    with suppress(FileNotFoundError), os.scandir(out / RECORDS_FOLDER) as entries:
        for entry in entries:
            token, dot, ending = entry.name.partition(".")
            if len(token) == _TOKEN_LENGTH and (dot, ending) == (".", "json"):
                yield token


def holds_results(out: Path) -> list[str]:
    """Return the names of what looks like results in a folder, an earlier run's or others'."""
    tables = [name for name in (NUCLEI_TABLE, IMAGES_TABLE, PROVENANCE_FILE) if (out / name).exists()]
    folders = [name for name in RESULT_FOLDERS if (out / name).is_dir()]
    return tables + [name for name in folders if any(entry.name[0] != "." for entry in (out / name).iterdir())]


def refuse_links(out: Path) -> None:
    """Raise if one of the folder's own folders is a link that leads out of it."""
    for name in (*RESULT_FOLDERS, PARTIAL_FOLDER):
        if leads_out(out, out / name):
            raise ResultsExistError(
                f"{out / name}: is a link that leads out of the results folder, and nothing is written through it; "
                "remove it or name another folder"
            )


def leads_out(out: Path, path: Path) -> bool:
    """Whether a path below a folder really lies elsewhere."""
    return not path.resolve().is_relative_to(out.resolve())


def remove_results(out: Path, paths: Iterable[str]) -> None:
    """Remove results, and the folders that this empties.

    Parameters
    ----------
    out : Path
    paths : iterable of str
        Relative to `out`. Those that are not results, or lie elsewhere, are left alone.
    """
    emptied: set[Path] = set()
    for name in paths:
        path = out / name
        if is_result(name) and not leads_out(out, path.parent):
            path.unlink(missing_ok=True)
            emptied |= {folder for folder in path.parents if out in folder.parents}
    for folder in sorted(emptied, key=lambda folder: len(folder.parts), reverse=True):
        with suppress(OSError):  # something else lies there
            folder.rmdir()
