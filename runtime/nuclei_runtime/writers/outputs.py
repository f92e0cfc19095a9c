"""The outputs: what is written for each image, one row per output.

A new output is one module with a `PlaneWriter` and one row here. Everything else follows from the rows: its word in
``--save``, the folder in the results, the digests in the records, and what is resumed, overwritten and verified.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from nuclei_runtime.readers.plane import Plane
from nuclei_runtime.steps.cells import Expansion
from nuclei_runtime.writers.geojson import GeoJsonWriter
from nuclei_runtime.writers.imagej_roi import ImageJRoiWriter
from nuclei_runtime.writers.label_tiff import LabelTiffWriter
from nuclei_runtime.writers.nuclei_csv import NucleiCsvWriter, join_nuclei_csv
from nuclei_runtime.writers.ome_zarr_labels import OmeZarrLabelsWriter
from nuclei_runtime.writers.overlay_png import OverlayPngWriter
from nuclei_runtime.writers.overlay_style import OverlayStyle
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
        ``writer(path, image, plane)``: the `PlaneWriter` of one plane. It writes a file, or a folder of files.
    join_planes : callable, optional
        ``join_planes(paths, joined)``: joins the files of an image file's planes, in order, into one. Without it,
        each plane keeps its own file.
    package : str, optional
        What it needs of the extra `FORMATS_EXTRA`.
    is_of_cells : bool
        Whether it shows the cells, and is written where the labels are if nuclei grow into cells: its writer gets the
        label image of the cells.
    """

    folder: str
    ending: str
    writer: Callable[[Path, str, Plane], PlaneWriter]
    join_planes: Callable[[Iterable[Path], Path], None] | None = None
    package: str | None = None
    is_of_cells: bool = False


FORMATS_EXTRA = "formats"

LABELS = Output("labels", ".tif", LabelTiffWriter)
CELLS = Output("cells", ".tif", LabelTiffWriter, is_of_cells=True)
OVERLAYS = Output("overlays", ".png", OverlayPngWriter)
TABLES = Output("tables", ".csv", NucleiCsvWriter, join_nuclei_csv)
GEOJSON = Output("geojson", ".geojson", GeoJsonWriter)
ROIS = Output("roi", ".zip", ImageJRoiWriter, package="roifile")
ORIGINAL_LABELS = Output("original_labels", ".tif", LabelTiffWriter)
"""The label image once more: people correct the one in ``labels``, and what they changed can be counted."""

BEHIND = (TABLES, ORIGINAL_LABELS)
"""Outputs that other results are made from, and that nobody needs to open."""

LABEL_FORMS = (LABELS, GEOJSON, ROIS)
"""The outputs in which a person can correct nuclei."""

OUTPUTS = (
    LABELS,
    ORIGINAL_LABELS,
    CELLS,
    OVERLAYS,
    TABLES,
    GEOJSON,
    ROIS,
    Output("ome-zarr", ".ome.zarr", OmeZarrLabelsWriter, package="zarr"),
)


@dataclass(frozen=True)
class OutputOptions:
    """Which outputs are written for each image, and how.

    Attributes
    ----------
    folders : tuple of str
        Of the outputs, in the order of `OUTPUTS`. The tables are always written: the joined tables are made from them.
    overlay : OverlayStyle
    expansion : Expansion, optional
        How far nuclei grow into cells, which are then measured too.
    """

    folders: tuple[str, ...] = (LABELS.folder, OVERLAYS.folder)
    overlay: OverlayStyle = field(default_factory=OverlayStyle)
    expansion: Expansion | None = None

    def describe(self) -> dict[str, Any]:
        """Return what the bits of the results depend on."""
        folders = [output.folder for output in self.outputs]
        return {
            "folders": folders,
            **({"overlay": str(self.overlay)} if OVERLAYS.folder in folders else {}),
            **({} if self.expansion is None else {"expansion": asdict(self.expansion)}),
        }

    @property
    def outputs(self) -> tuple[Output, ...]:
        """The outputs to write."""
        needed = {TABLES.folder}
        if LABELS.folder in self.folders:
            needed |= {ORIGINAL_LABELS.folder} | (set() if self.expansion is None else {CELLS.folder})
        chosen = (output for output in OUTPUTS if output.folder in needed.union(self.folders))
        return tuple(
            replace(output, writer=partial(OverlayPngWriter, style=self.overlay)) if output is OVERLAYS else output
            for output in chosen
        )
