"""Where things are in a results folder.

DIR/tables/STEM.csv       one row per nucleus of this image
DIR/labels/STEM.tif       label image: 0 is background, each nucleus has its number
DIR/original_labels/...   the same, for comparison when a person has corrected the other
DIR/cells/STEM.tif        label image of the cells, if nuclei grow into cells
DIR/overlays/STEM.png     the image with its nuclei outlined
DIR/records/TOKEN.json    the outcome of an image file; see `nuclei_runtime.results.records`
DIR/records/conditions.csv the conditions that the last run was given; see `nuclei_runtime.results.conditions`
DIR/nuclei.csv            one row per nucleus, joined from the tables
DIR/images.csv            one row per image or plane, joined from the records
DIR/summary.csv           counts and medians of groups of images; see `nuclei_runtime.results.summary`
DIR/report.html           with --report; see `nuclei_runtime.report`
DIR/provenance.json       how the results were made
DIR/.nuclei-partial/      unfinished files
DIR/.nuclei-blocks/       blocks of unfinished large images; see `nuclei_runtime.segmentation.kept_blocks`
DIR/.nuclei-lock-1-of-1   while a process uses the folder; see `nuclei_runtime.results.lock`

The first five, and others that ``--save`` names, are the rows of `nuclei_runtime.writers.outputs`; an OME-Zarr is a
folder. A file with several planes has one of each per plane, except for the table: STEM_s00_t000_z000.tif.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

from nuclei_runtime.errors import ResultsExistError
from nuclei_runtime.writers.outputs import OUTPUTS, Output

RECORDS_FOLDER, PARTIAL_FOLDER, BLOCKS_FOLDER = "records", ".nuclei-partial", ".nuclei-blocks"
NUCLEI_TABLE, IMAGES_TABLE, PROVENANCE_FILE = "nuclei.csv", "images.csv", "provenance.json"
NUCLEI_PARQUET, NUCLEI_WORKBOOK = "nuclei.parquet", "nuclei.xlsx"

SUMMARY_TABLE, REPORT_FILE = "summary.csv", "report.html"
CONDITIONS_FILE = f"{RECORDS_FOLDER}/conditions.csv"

TRIED_MARK = "tried-"
"""Begins the kind of the marks in `PARTIAL_FOLDER` that count how often an image was begun."""

JOINED_FILES = (NUCLEI_TABLE, IMAGES_TABLE, SUMMARY_TABLE, NUCLEI_PARQUET, NUCLEI_WORKBOOK)
"""Every file that joined tables can be in."""

REPORT_MARK = "nuclei-edge report"
"""Stands near the start of each report: what else is called report.html is the user's."""

_MARK_WITHIN = 4096

_ENDINGS = {output.folder: output.ending for output in OUTPUTS}

RESULT_FOLDERS = (*_ENDINGS, RECORDS_FOLDER)
"""The folders that hold files of single images."""

_MAX_NAME_BYTES = 255
"""The longest name on the common file systems."""

_MARK_LENGTH, _TOKEN_LENGTH = 8, 32
_BACKSLASH = "\\"


def token_of(name: str) -> str:
    """Return the token that stands for an image's name in file names: the name itself may be too long, or not text.

    It is the first 32 hexadecimal digits of the SHA-256 of the name.
    """
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_TOKEN_LENGTH]


def result_stem(stem: str) -> str:
    """Return the stem of an image as the names of its results have it.

    Zips from Windows can unpack to names with a backslash, which would lead into another folder there: it becomes
    ``_``, and a part of the token follows.
    """
    return f"{stem.replace(_BACKSLASH, '_')}~{token_of(stem)[:_MARK_LENGTH]}" if _BACKSLASH in stem else stem


def result_path(output: Output, stem: str, suffix: str = "") -> str:
    """Return the path of a result, relative to the results folder, with ``/``.

    Parameters
    ----------
    output : Output
    stem : str
        `nuclei_runtime.runs.inputs.ImageFile.stem`.
    suffix : str
        `nuclei_runtime.readers.plane.Plane.suffix`; empty for a result of the whole file.
    """
    safe, ending = result_stem(stem), suffix + output.ending
    path = PurePosixPath(output.folder, safe + ending)
    if len(path.name.encode()) > _MAX_NAME_BYTES:
        ending = f"~{token_of(stem)[:_MARK_LENGTH]}{ending}"
        kept = PurePosixPath(safe).name.encode()[: _MAX_NAME_BYTES - len(ending)].decode(errors="ignore")
        path = path.with_name(kept + ending)
    return path.as_posix()


def files_of(target: str, path: Path) -> dict[str, Path]:
    """Return the files of a result that a writer made, by the names that they get.

    Each file of a folder is a result of its own; the outermost are the last.
    """
    if not path.is_dir():
        return {target: path}
    files = sorted((file for file in path.rglob("*") if file.is_file()), key=lambda file: (-len(file.parts), file))
    return {f"{target}/{file.relative_to(path).as_posix()}": file for file in files}


def is_inside(path: str) -> bool:
    """Whether a path that a record names stays within a folder of the results folder, on every system."""
    parts = PurePosixPath(path).parts
    return len(parts) > 1 and parts[0] != "/" and ".." not in parts and _BACKSLASH not in path and ":" not in parts[0]


def is_result(path: str) -> bool:
    """Whether a path that a record names is one that `result_path` can return, or lies in a folder with such a path."""
    if not is_inside(path):
        return False
    folder, *names = PurePosixPath(path).parts
    return folder in _ENDINGS and any(name.endswith(_ENDINGS[folder]) for name in names)


def record_name(token: str) -> str:
    """Return the path of the record of an image, relative to the results folder, with ``/``."""
    return f"{RECORDS_FOLDER}/{token}.json"


def record_path(out: Path, token: str) -> Path:
    """Return the path of the record of an image."""
    return out / record_name(token)


def recorded_tokens(out: Path) -> Iterator[str]:
    """Yield the token of each image that has a record, in no particular order."""
    with suppress(FileNotFoundError), os.scandir(out / RECORDS_FOLDER) as entries:
        for entry in entries:
            token, dot, ending = entry.name.partition(".")
            if len(token) == _TOKEN_LENGTH and (dot, ending) == (".", "json"):
                yield token


def holds_results(out: Path) -> list[str]:
    """Return the names of files and folders that look like results, of an earlier run or of something else."""
    tables = [name for name in (*JOINED_FILES, PROVENANCE_FILE) if (out / name).exists()]
    folders = [name for name in RESULT_FOLDERS if (out / name).is_dir()]
    return tables + [name for name in folders if any(entry.name[0] != "." for entry in (out / name).iterdir())]


def is_own_report(path: Path) -> bool:
    """Whether a file is a report of nuclei-edge, or one that a power cut left blank; no, if it does not exist."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            start = file.read(_MARK_WITHIN)
            return REPORT_MARK in start or not start.strip("\0")
    except FileNotFoundError:
        return False


def refuse_links(out: Path) -> None:
    """Raise if one of the folders that results are written to is a link that leads out of the results folder.

    Raises
    ------
    ResultsExistError
    """
    for name in (*RESULT_FOLDERS, PARTIAL_FOLDER, BLOCKS_FOLDER):
        if leads_out(out, out / name):
            raise ResultsExistError(
                f"{out / name}: is a link that leads out of the results folder, and nothing is written through such a "
                "link; remove it, or choose another folder"
            )


def leads_out(out: Path, path: Path) -> bool:
    """Whether a path below a folder leads elsewhere through a link."""
    return not path.resolve().is_relative_to(out.resolve())


def remove_results(out: Path, paths: Iterable[str]) -> None:
    """Remove results, and the folders that this empties.

    Parameters
    ----------
    out : Path
    paths : iterable of str
        Relative to `out`. Paths that are not results, or lead elsewhere, are left alone.
    """
    emptied: set[Path] = set()
    for name in paths:
        path = out / name
        if is_result(name) and not leads_out(out, path.parent):
            path.unlink(missing_ok=True)
            emptied |= {folder for folder in path.parents if out in folder.parents}
    for folder in sorted(emptied, key=lambda folder: len(folder.parts), reverse=True):
        with suppress(OSError):  # something else is in it
            folder.rmdir()
