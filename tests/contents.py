"""What is in a folder, a table and a whole plane, and the bytes of a picture, for tests in several rooms."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
from PIL import Image

from nuclei_runtime.readers.plane import Plane


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file in a folder and its subfolders."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def everything(folder: Path) -> dict[str, bytes]:
    """Return everything in a folder, including its subfolders, even empty ones."""
    return contents(folder) | {path.relative_to(folder).as_posix(): b"" for path in folder.rglob("*") if path.is_dir()}


def read_table(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV table."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def whole(plane: Plane) -> np.ndarray:
    """Return all pixels of a plane."""
    return plane.read(slice(0, plane.shape[0]), slice(0, plane.shape[1]))


def png_bytes(image: np.ndarray) -> bytes:
    """Encode an array as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()
