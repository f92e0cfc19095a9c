"""The results folder, written so that an interruption leaves whole files and never touches what others wrote.

DIR/labels/STEM.tif     each nucleus has its number, 0 is background
DIR/overlays/STEM.png   the image with the nuclei outlined
DIR/nuclei.csv          a row a nucleus
DIR/images.csv          a row an image, added when its files are complete
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image as PillowImage

from nuclei_runtime.errors import RuntimeEnvironmentError, ResultsExistError
from nuclei_runtime.inputs import IMAGES_TABLE, LABELS_FOLDER, NUCLEI_TABLE, OVERLAYS_FOLDER, ImageFile
from nuclei_runtime.instances import Labels
from nuclei_runtime.overlay import draw_overlay
from nuclei_runtime.reading import Image
from nuclei_runtime.tables import (
    IMAGES_COLUMNS,
    NUCLEI_COLUMNS,
    Outcome,
    Table,
    nucleus_rows,
    outcome_row,
)

_COLUMNS = {NUCLEI_TABLE: NUCLEI_COLUMNS, IMAGES_TABLE: IMAGES_COLUMNS}
_PARTIAL_NAME = ".nuclei-partial"
_MAX_UINT16_LABEL = 65_535


class ResultWriter:
    """Writes one run's results. To be used in a ``with`` statement.

    Parameters
    ----------
    out : path
        The results folder; it is made where it does not exist.
    files : sequence of ImageFile
        All images of the run, so that what stands in its way is found before anything is written.
    overwrite : bool
        Remove an earlier run's results first: what its ``images.csv`` names, and its tables. Nothing else.

    Raises
    ------
    ResultsExistError
        `out` holds results and `overwrite` is not set, or files that no earlier run wrote stand in the way.
    RuntimeEnvironmentError
        The folder cannot be written to.
    """

    def __init__(
        self, out: str | os.PathLike[str], files: Sequence[ImageFile], *, overwrite: bool = False
    ) -> None:
        self._out = Path(out)
        if self._out.exists() and not self._out.is_dir():
            raise ResultsExistError(f"{out}: is a file; name a folder for the results")
        if not overwrite:
            _refuse_results(self._out)
        earlier = _earlier_results(self._out)
        targets = {path for file in files for path in self._targets(file)}
        foreign = sorted(path for path in targets - earlier if path.exists())
        if foreign:
            raise ResultsExistError(
                f"{foreign[0]}: is in the way of the results ({len(foreign)} such files), "
                "and no earlier run wrote it; move it away or name another folder"
            )
        with _writing(self._out):
            self._out.mkdir(parents=True, exist_ok=True)
            _remove(earlier, self._out)
            self._nuclei, self._images = (Table(self._out / name, _COLUMNS[name]) for name in _COLUMNS)

    def __enter__(self) -> ResultWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._nuclei.close()
        self._images.close()

    def write(self, file: ImageFile, image: Image, labels: Labels) -> Outcome:
        """Write the results of one image.

        Parameters
        ----------
        file : ImageFile
        image : (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) ndarray
        labels : (H, W) ndarray of int32
            0 background, 1..N.

        Raises
        ------
        RuntimeEnvironmentError
            They cannot be written: the disk is full, say. What was written before stays.
        """
        # First all that can fail for this image alone, then all that would fail for the next one too.
        label_path, overlay_path = self._targets(file)
        label_bytes, overlay_bytes = _tiff_bytes(labels), _png_bytes(draw_overlay(image, labels))
        rows = nucleus_rows(file.name, image, labels)
        height, width = labels.shape
        outcome = Outcome(
            image=file.name,
            status="ok",
            n_nuclei=len(rows),
            height=height,
            width=width,
            nuclei_per_megapixel=len(rows) / (height * width / 1e6),
            labels=label_path.relative_to(self._out).as_posix(),
        )
        with _writing(label_path):
            _write_whole(label_path, label_bytes)
        with _writing(overlay_path):
            _write_whole(overlay_path, overlay_bytes)
        with _writing(self._nuclei.path):
            self._nuclei.add(rows)
        return self._note(outcome)

    def fail(self, file: ImageFile, reason: str) -> Outcome:
        """Note that an image failed, and why."""
        return self._note(Outcome(image=file.name, status="failed", reason=reason))

    def _note(self, outcome: Outcome) -> Outcome:
        with _writing(self._images.path):
            self._images.add([outcome_row(outcome)])
        return outcome

    def _targets(self, file: ImageFile) -> tuple[Path, Path]:
        label_path = self._out / LABELS_FOLDER / f"{file.stem}.tif"
        return label_path, _overlay_of(label_path, self._out)


def _overlay_of(label_path: Path, out: Path) -> Path:
    return (out / OVERLAYS_FOLDER / label_path.relative_to(out / LABELS_FOLDER)).with_suffix(".png")


def _refuse_results(out: Path) -> None:
    """Raise if the folder holds results, an earlier run's or what looks like some."""
    tables = [out / name for name in _COLUMNS if (out / name).exists()]
    folders = [out / name for name in (LABELS_FOLDER, OVERLAYS_FOLDER) if (out / name).is_dir()]
    full = [folder for folder in folders if any(entry.name[0] != "." for entry in folder.iterdir())]
    if tables or full:
        raise ResultsExistError(
            f"{out}: already holds results ({', '.join(path.name for path in tables + full)}); "
            "name another folder, or replace them with --overwrite"
        )


def _earlier_results(out: Path) -> set[Path]:
    """Return the files that an earlier run wrote, as its tables tell."""
    written: set[Path] = set()
    for name, columns in _COLUMNS.items():
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
                if ".." not in label_path.parts and label_path.is_relative_to(out / LABELS_FOLDER):
                    written |= {label_path, _overlay_of(label_path, out)}
    return written


def _remove(files: set[Path], out: Path) -> None:
    """Remove files, and the folders of labels and overlays that this empties."""
    for path in files:
        path.unlink(missing_ok=True)
    folders = {folder for path in files for folder in path.parents if out in folder.parents}
    for folder in sorted(folders, key=lambda folder: len(folder.parts), reverse=True):
        (folder / _PARTIAL_NAME).unlink(missing_ok=True)
        with suppress(OSError):  # the user keeps something there
            folder.rmdir()


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RuntimeEnvironmentError(
            f"{path}: cannot be written: {error.strerror or error}; what was written before stays"
        ) from error


def _write_whole(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():  # two names that this file system takes for one, or another run in the same folder
        raise FileExistsError(None, "a file of this name was just written", str(path))
    partial = path.with_name(_PARTIAL_NAME)
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _tiff_bytes(labels: Labels) -> bytes:
    """Encode labels; without clock and versions, so that equal labels give equal bytes."""
    depth = np.uint16 if labels.max() <= _MAX_UINT16_LABEL else np.uint32
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        labels.astype(depth),
        photometric="minisblack",
        compression="zlib",
        metadata=None,
        software=False,
    )
    return buffer.getvalue()


def _png_bytes(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    PillowImage.fromarray(picture).save(buffer, format="PNG")
    return buffer.getvalue()
