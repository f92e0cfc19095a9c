"""The outputs: what is written for each image, one row per output.

A new output is one module with a `PlaneWriter` and one row here. Everything else follows from the rows: the folder in
the results, the digests in the records, and what is resumed, overwritten and verified.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from nuclei_runtime.readers.plane import Plane
from nuclei_runtime.writers.label_tiff import LabelTiffWriter
from nuclei_runtime.writers.nuclei_csv import NucleiCsvWriter, join_nuclei_csv
from nuclei_runtime.writers.overlay_png import OverlayPngWriter
from nuclei_runtime.writers.plane_writer import PlaneWriter


@dataclass(frozen=True)
class Output:
    """One kind of result file.

    Attributes
    ----------
    folder : str
        The folder of the results folder that holds the files.
    ending : str
        How their names end, with the dot.
    writer : callable
        ``writer(path, image, plane)``: the `PlaneWriter` of one plane.
    join_planes : callable, optional
        ``join_planes(paths, joined)``: joins the files of an image file's planes, in order, into one. Without it,
        each plane keeps its own file.
    """

    folder: str
    ending: str
    writer: Callable[[Path, str, Plane], PlaneWriter]
    join_planes: Callable[[Iterable[Path], Path], None] | None = None


LABELS = Output("labels", ".tif", LabelTiffWriter)
OVERLAYS = Output("overlays", ".png", OverlayPngWriter)
TABLES = Output("tables", ".csv", NucleiCsvWriter, join_nuclei_csv)

OUTPUTS = (
    LABELS,
    OVERLAYS,
    TABLES,
)
