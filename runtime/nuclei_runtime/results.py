"""Writes a results folder, so that an interruption leaves whole files and nothing of the user's is touched."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image as PillowImage

from nuclei_runtime.errors import NucleiError, ResultsExistError, RuntimeEnvironmentError
from nuclei_runtime.inputs import ImageFile
from nuclei_runtime.instances import Labels
from nuclei_runtime.layout import (
    COLUMNS,
    LABELS_FOLDER,
    PARTIAL_NAME,
    earlier_results,
    overlay_of,
    refuse_results,
    remove_files,
)
from nuclei_runtime.overlay import draw_overlay
from nuclei_runtime.reading import Image
from nuclei_runtime.tables import Outcome, Table, nucleus_rows, outcome_row

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

    def __init__(self, out: str | os.PathLike[str], files: Sequence[ImageFile], *, overwrite: bool = False) -> None:
        self._out = Path(out)
        with _writing(self._out):
            if self._out.exists() and not self._out.is_dir():
                raise ResultsExistError(f"{out}: is a file; name a folder for the results")
            if not overwrite:
                refuse_results(self._out)
            earlier = earlier_results(self._out)
            targets = {path for file in files for path in self._targets(file)}
            foreign = sorted(path for path in targets - earlier if path.exists())
            if foreign:
                raise ResultsExistError(
                    f"{foreign[0]}: is in the way of the results ({len(foreign)} such file(s)), "
                    "and no earlier run wrote it; move it away or name another folder"
                )
            self._out.mkdir(parents=True, exist_ok=True)
            remove_files(earlier, self._out)
            self._nuclei, self._images = (Table(self._out / name, columns) for name, columns in COLUMNS.items())

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
            nuclei_per_megapixel=round(1e6 * len(rows) / (height * width), 3),
            labels=label_path.relative_to(self._out).as_posix(),
        )
        placed: list[Path] = []
        try:
            for path, content in ((label_path, label_bytes), (overlay_path, overlay_bytes)):
                with _writing(path):
                    _write_whole(path, content)
                placed.append(path)
            with _writing(self._nuclei.path):
                self._nuclei.add(rows)
            return self._note(outcome)
        except BaseException:  # Ctrl-C too: a file that images.csv does not name would pass for the user's own
            for path in placed:
                path.unlink(missing_ok=True)
            raise

    def fail(self, file: ImageFile, reason: str) -> Outcome:
        """Note that an image failed, and why."""
        return self._note(Outcome(image=file.name, status="failed", reason=reason))

    def _note(self, outcome: Outcome) -> Outcome:
        with _writing(self._images.path):
            self._images.add([outcome_row(outcome)])
        return outcome

    def _targets(self, file: ImageFile) -> tuple[Path, Path]:
        label_path = self._out / LABELS_FOLDER / f"{file.stem}.tif"
        return label_path, overlay_of(label_path, self._out)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except NucleiError:
        raise
    except OSError as error:
        raise RuntimeEnvironmentError(
            f"{path}: cannot be written: {error.strerror or error}; what was written before stays"
        ) from error


def _write_whole(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():  # two names that this file system takes for one, or another run in the same folder
        raise FileExistsError(None, "a file of this name was just written", str(path))
    partial = path.with_name(PARTIAL_NAME)
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


def _png_bytes(picture: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    PillowImage.fromarray(picture).save(buffer, format="PNG")
    return buffer.getvalue()
