"""What lies where in a results folder, and what an earlier run left in one.

DIR/labels/STEM.tif     each nucleus has its number, 0 is background
DIR/overlays/STEM.png   the image with the nuclei outlined
DIR/nuclei.csv          a row a nucleus
DIR/images.csv          a row an image, added when its files are complete
"""

from __future__ import annotations

import csv
from contextlib import suppress
from pathlib import Path

from nuclei_runtime.errors import ResultsExistError
from nuclei_runtime.tables import IMAGES_COLUMNS, NUCLEI_COLUMNS

LABELS_FOLDER, OVERLAYS_FOLDER = "labels", "overlays"
NUCLEI_TABLE, IMAGES_TABLE = "nuclei.csv", "images.csv"
COLUMNS = {NUCLEI_TABLE: NUCLEI_COLUMNS, IMAGES_TABLE: IMAGES_COLUMNS}

PARTIAL_NAME = ".nuclei-partial"
"""What a file is called until it is whole."""


def overlay_of(label_path: Path, out: Path) -> Path:
    """Return where the overlay that belongs to a label image lies."""
    return (out / OVERLAYS_FOLDER / label_path.relative_to(out / LABELS_FOLDER)).with_suffix(".png")


def refuse_results(out: Path) -> None:
    """Raise if the folder holds results, an earlier run's or what looks like some."""
    tables = [out / name for name in COLUMNS if (out / name).exists()]
    folders = [out / name for name in (LABELS_FOLDER, OVERLAYS_FOLDER) if (out / name).is_dir()]
    full = [folder for folder in folders if any(entry.name[0] != "." for entry in folder.iterdir())]
    if tables or full:
        raise ResultsExistError(
            f"{out}: already holds results ({', '.join(path.name for path in tables + full)}); "
            "name another folder, or replace them with --overwrite"
        )


def earlier_results(out: Path) -> set[Path]:
    """Return the files that an earlier run wrote, as its tables tell."""
    written: set[Path] = set()
    for name, columns in COLUMNS.items():
        path = out / name
        if not path.exists():
            continue
        with path.open(encoding="utf-8", errors="replace", newline="") as file:
            rows = csv.DictReader(file)
            if tuple(rows.fieldnames or ()) != columns:
                raise ResultsExistError(
                    f"{path}: is in the way of the results and no earlier run wrote it; "
                    "move it away or name another folder"
                )
            written.add(path)
            for row in rows if name == IMAGES_TABLE else ():
                label_path = out / (row["labels"] or "")
                inside = label_path.is_relative_to(out / LABELS_FOLDER) and ".." not in label_path.parts
                if inside and label_path.suffix == ".tif":
                    written |= {label_path, overlay_of(label_path, out)}
    return written


def remove_files(files: set[Path], out: Path) -> None:
    """Remove files, and the folders of labels and overlays that this empties."""
    for path in files:
        path.unlink(missing_ok=True)
    folders = {folder for path in files for folder in path.parents if out in folder.parents}
    for folder in sorted(folders, key=lambda folder: len(folder.parts), reverse=True):
        (folder / PARTIAL_NAME).unlink(missing_ok=True)
        with suppress(OSError):  # the user keeps something there
            folder.rmdir()
