"""Writes the report of a results folder: ``report.html``, and ``summary.csv`` as it shows it."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.errors import InputsError, ResultsExistError
from nuclei_runtime.json_fields import flat
from nuclei_runtime.report.citation import how_to_cite
from nuclei_runtime.report.columns import PackedColumn, chosen_columns, dropped_bits
from nuclei_runtime.report.label_images import measured_labels, read_labels
from nuclei_runtime.report.outlines import trace_turns
from nuclei_runtime.report.page import Page
from nuclei_runtime.report.pictures import Pictures
from nuclei_runtime.results.conditions import Conditions, kept_conditions
from nuclei_runtime.results.differing import differing_results
from nuclei_runtime.results.experiment import read_experiment
from nuclei_runtime.results.joined_tables import write_tables
from nuclei_runtime.results.layout import (
    IMAGES_TABLE,
    PROVENANCE_FILE,
    REPORT_FILE,
    RESULT_FOLDERS,
    SUMMARY_TABLE,
    is_own_report,
)
from nuclei_runtime.results.mirror import mirrored
from nuclei_runtime.results.read_tables import (
    PlaneKey,
    Row,
    image_name,
    nuclei_columns,
    plane_key,
    read_nuclei,
    read_rows,
)
from nuclei_runtime.results.records import record_of, with_recorded
from nuclei_runtime.results.summary import folder_of
from nuclei_runtime.results.wells import Well
from nuclei_runtime.results.writing import move, writing
from nuclei_runtime.steps.columns import describe_column
from nuclei_runtime.steps.flags import split
from nuclei_runtime.stores.remote import RemoteFolder

FAILED, CHANGED, NOTE = "failed", "changed", "note"
"""What the report adds to the flags of an image."""

_CHANGED = "changed after the run: {}; shown and counted as it was before"

MAX_OUTLINES_BYTES = 18_000_000
"""What the outlines may take, before base64; about 1.5 million nuclei of 20 px. Further images have none."""


def write_report(out: Path | RemoteFolder, conditions: Conditions | None = None) -> tuple[str, ...]:
    """Write ``report.html`` into a results folder: from its records, label images and overlays, and from the images.

    Parameters
    ----------
    out : Path or RemoteFolder
        The results folder.
    conditions : Conditions, optional
        By default those in ``images.csv``.

    Returns
    -------
    tuple of str
        What the user should know.

    Raises
    ------
    InputsError
        There are no results, or too many nuclei for a report.
    ResultsExistError
        There is another file called report.html.
    RuntimeEnvironmentError
        The folder cannot be written to.
    """
    with mirrored(out, (PROVENANCE_FILE, IMAGES_TABLE, REPORT_FILE), RESULT_FOLDERS) as folder:
        notes = _write_report(folder, conditions)
        if isinstance(out, RemoteFolder):
            with writing(out):
                out.put(folder / REPORT_FILE, REPORT_FILE)
    return notes


def _write_report(out: Path, conditions: Conditions | None) -> tuple[str, ...]:
    _refuse_foreign_report(out)
    names = with_recorded(out, ())
    if not names:
        raise InputsError(f"{out}: holds no results of nuclei-infer")
    conditions = conditions or kept_conditions(out)
    with writing(out), TemporaryDirectory(dir=out, prefix=".nuclei-report-") as folder:
        work = Path(folder)
        # Joined again, because those in the folder may be of another style or format, or may have been edited.
        joined = write_tables(out, names, "", work=work, conditions=conditions)
        with (work / REPORT_FILE).open("w", encoding="utf-8", newline="\n") as file:
            _Report(out, work).write(file)
        move(work / REPORT_FILE, out / REPORT_FILE)
    return () if joined is None else joined.of_conditions


def refuse_foreign_report(out: Path | RemoteFolder) -> None:
    """Raise if report.html is not a report of ours.

    Raises
    ------
    ResultsExistError
    """
    with mirrored(out, (REPORT_FILE,)) as folder:
        _refuse_foreign_report(folder)


def _refuse_foreign_report(out: Path) -> None:
    if (out / REPORT_FILE).exists() and not is_own_report(out / REPORT_FILE):
        raise ResultsExistError(f"{out / REPORT_FILE}: is in the way, and is not a report of nuclei-edge; move it away")


class _Report:
    def __init__(self, out: Path, tables: Path) -> None:
        self._out, self._tables = out, tables
        self._experiment = read_experiment(tables)
        self._provenance = _read_json(out / PROVENANCE_FILE)
        self._pictures = Pictures(out, self._provenance, len(self._experiment.images))
        self._outlines_bytes = 0
        self._changed: tuple[str, tuple[str, ...]] = "", ()

    def write(self, file: TextIO) -> None:
        n_nuclei = sum(int(row.get("n_nuclei") or 0) for row in self._experiment.images)
        columns, left_out = chosen_columns(nuclei_columns(self._tables), n_nuclei)
        n_dropped_bits = dropped_bits(n_nuclei * len(columns))
        title = self._out.resolve().name.encode("utf-8", "replace").decode()  # a name on Linux may be any bytes
        page = Page(file, title)
        counts = self._add_nuclei(page, columns, n_dropped_bits)
        of_planes = zip(
            self._experiment.images, self._experiment.conditions, self._experiment.wells, counts, strict=True
        )
        document = {
            "title": title,
            "images": [self._add_plane(page, index, *plane) for index, plane in enumerate(of_planes)],
            "columns": [_described(name) for name in columns],
            "left_out": left_out,
            "n_dropped_bits": n_dropped_bits,
            "summary": read_rows(self._tables / SUMMARY_TABLE),
            "provenance": [
                [key.removeprefix("method."), _shown(value)] for key, value in flat(self._provenance).items()
            ],
            "citation": how_to_cite(),
        }
        page.add_json("report", document)
        page.close()

    def _add_nuclei(self, page: Page, columns: Sequence[str], n_dropped_bits: int) -> list[int]:
        """Add the measurements in the order of the images, and return how many nuclei each image has."""
        values: dict[PlaneKey, list[NDArray[Any]]] = {}
        for key, part in read_nuclei(self._tables, columns):
            values.setdefault(key, []).append(part.astype(np.float32))
        packed = [PackedColumn(0 if name == "label" else n_dropped_bits) for name in columns]
        counts = []
        for row in self._experiment.images:
            parts = values.pop(plane_key(row), [])
            counts.append(sum(map(len, parts)))
            for part in parts:
                for column, packer in zip(part.T, packed, strict=True):
                    packer.add(column)
        for index, packer in enumerate(packed):
            for byte, stream in enumerate(packer.finish()):
                page.add_bytes(f"column-{index}-{byte}", stream)
        return counts

    def _add_plane(
        self, page: Page, index: int, row: Row, condition: str, well: Well | None, n_nuclei: int
    ) -> dict[str, Any]:
        """Add the picture and the outlines of a plane, and return what else the page shows of it."""
        shown: dict[str, Any] = {
            "row": {name: cell for name, cell in row.items() if cell},
            "n": n_nuclei,
            "folder": folder_of(row),
            "condition": condition,
            "well": None if well is None else [well.plate, well.row, well.column, well.name],
            "flags": flags_of(row),
            "picture": None,
            "outlines": None,
        }
        if row["status"] != "ok":
            return shown
        picture = self._pictures.of(row)
        if picture is not None:
            content, shown["picture"] = picture
            page.add_bytes(f"picture-{index}", content)
        if changed := self._changed_results(image_name(row)):
            shown["flags"].append((CHANGED, _CHANGED.format(", ".join(changed)), ""))
        labels = read_labels(self._out, measured_labels(self._out, row.get("labels", ""))) if n_nuclei else None
        if labels is not None and self._outlines_bytes < MAX_OUTLINES_BYTES:
            outlines = trace_turns(labels[0])
            content = zlib.compress(outlines.to_bytes(), 9)
            self._outlines_bytes += len(content)
            page.add_bytes(f"outlines-{index}", content)
            shown["outlines"] = {"scale": labels[1], "n": len(outlines.labels)}
        return shown

    def _changed_results(self, name: str) -> tuple[str, ...]:
        """Return the results of an image that somebody has changed since the run.

        Their digests are computed again, which takes about 1 % of a report's time. Nothing cheaper shows it: copies of
        a folder have other times, and a table or a picture may keep its size. Unnoticed, the outlines of corrected
        labels would stand beside the measurements of those before.
        """
        if self._changed[0] != name:  # the planes of an image follow each other
            record = None
            with suppress(FileNotFoundError):
                record = record_of(self._out, name)
            self._changed = name, () if record is None else differing_results(self._out, record).changed
        return self._changed[1]


def flags_of(row: Row) -> list[tuple[str, str, str]]:
    """Return why an image is to be looked at first: short names, reasons, and what to do."""
    if row["status"] != "ok":
        return [(FAILED, row.get("reason") or "failed", "")]
    notes = [(NOTE, row["note"], "")] if row.get("note") else []
    return [*((flag.value, flag.reason, flag.advice) for flag in split(row.get("flags", ""))), *notes]


def _described(name: str) -> dict[str, str]:
    column = describe_column(name)
    if column is None:
        return {"name": name}
    return {"name": name, "meaning": column.meaning + (f" ({column.unit})" if column.unit else "")}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8", errors="replace"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
