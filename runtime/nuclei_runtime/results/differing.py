"""Which results of an image differ from its record: those that are damaged, and those that somebody has changed.

A label image in the results folder is what a person corrects. The difference matters, because what is damaged is made
again, and what somebody has changed must not be lost.
"""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

from nuclei_runtime.errors import ImageError
from nuclei_runtime.readers.formats import image_suffixes
from nuclei_runtime.readers.opening import open_planes
from nuclei_runtime.readers.plane import EACH_SCENE, Selection
from nuclei_runtime.results.layout import leads_out
from nuclei_runtime.results.mirror import mirrored
from nuclei_runtime.results.records import Record, digest_file
from nuclei_runtime.stores.remote import RemoteFolder

_STRIP_PX = 1024
"""How many rows of an image are read at a time."""


@dataclass(frozen=True)
class Differing:
    """Results that are not what was recorded, by their paths relative to the results folder.

    Attributes
    ----------
    damaged : tuple of str
        Missing, empty, full of zeros as a power cut may leave them, or cut off so that they cannot be read.
    changed : tuple of str
        All others.
    """

    damaged: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()


def differing_results(out: Path | RemoteFolder, record: Record) -> Differing:
    """Compare the results of an image with its record. Those that a URL names are fetched for it, one image at a time.

    Raises
    ------
    RuntimeEnvironmentError
        The store cannot be read.
    """
    with mirrored(out, record.results) as folder:
        return _differing(folder, record)


def _differing(out: Path, record: Record) -> Differing:
    damaged: list[str] = []
    changed: list[str] = []
    for target, sha256 in record.results.items():
        path = out / target
        try:
            if leads_out(out, path):
                damaged.append(target)
            elif digest_file(path).sha256 != sha256:
                (damaged if _is_damaged(path) else changed).append(target)
        except OSError:
            damaged.append(target)
    return Differing(tuple(damaged), tuple(changed))


def _is_damaged(path: Path) -> bool:
    """Whether nobody can have meant a file to be like this."""
    if _is_blank(path):
        return True
    suffix = path.suffix.lower()
    try:
        if suffix in image_suffixes():
            _read_all(path)
        elif suffix == ".csv":  # every program ends the last line
            with path.open("rb") as file:
                file.seek(-1, os.SEEK_END)
                return file.read() not in (b"\n", b"\r")
        elif suffix in (".json", ".geojson"):
            json.loads(path.read_bytes())
        elif suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                return archive.testzip() is not None
    except (ImageError, ValueError, RecursionError, zipfile.BadZipFile, EOFError, NotImplementedError):
        return True
    return False


def _is_blank(path: Path) -> bool:
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            if part.strip(b"\0"):
                return False
    return True


def _read_all(path: Path) -> None:
    with open_planes(path, Selection(scene=EACH_SCENE, z="each")) as planes:
        for plane in planes:
            height, width = plane.shape[:2]
            for top in range(0, height, _STRIP_PX):
                plane.read(slice(top, min(top + _STRIP_PX, height)), slice(0, width))
