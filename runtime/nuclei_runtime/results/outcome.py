"""The outcome of one plane of an image file: a row of ``images.csv``."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

from nuclei_runtime.readers.plane import Plane
from nuclei_runtime.writers.csv_cells import Cell, csv_cell
from nuclei_runtime.writers.overlay_png import overlay_scale
from nuclei_runtime.writers.plane_files import Written


@dataclass(frozen=True)
class PlaneOutcome:
    """The outcome of one plane: a row of ``images.csv``.

    Attributes
    ----------
    image : str
        The file's path relative to the folder that was named, with ``/``.
    status : str
        ``ok`` or ``failed``.
    time, z : int, optional
        Which of the file's planes it is, counted from 0. These and the following are None where they do not apply.
    n_nuclei, height, width : int, optional
        Height and width in pixels.
    pixel_height_um, pixel_width_um : float, optional
        In micrometres, if the file states it.
    nuclei_per_megapixel : float, optional
    overlay_scale : int, optional
        See `nuclei_runtime.writers.overlay_png.overlay_scale`.
    scale : float, optional
        How many times larger than the plane the network saw it, along each side.
    stain : str, optional
        As which stain; see `nuclei_runtime.steps.view.View`.
    estimated_diameter_px : float, optional
        Median diameter of disks with the areas of the nuclei.
    expected_ap : float, optional
        See `nuclei_runtime.segmentation.result.Segmentation`.
    reason : str, optional
        Why the plane, or the whole file, failed.
    labels : str, optional
        The label image, relative to the results folder, with ``/``.
    """

    image: str
    status: str
    time: int | None = None
    z: int | None = None
    n_nuclei: int | None = None
    height: int | None = None
    width: int | None = None
    pixel_height_um: float | None = None
    pixel_width_um: float | None = None
    nuclei_per_megapixel: float | None = None
    overlay_scale: int | None = None
    scale: float | None = None
    stain: str | None = None
    estimated_diameter_px: float | None = None
    expected_ap: float | None = None
    reason: str | None = None
    labels: str | None = None


IMAGES_COLUMNS = tuple(field.name for field in fields(PlaneOutcome))


def segmented(image: str, plane: Plane, written: Written, labels: str) -> PlaneOutcome:
    """Return the outcome of a plane whose outputs are written."""
    height, width = plane.shape[:2]
    pixel_height, pixel_width = plane.pixel_size_um or (None, None)
    return PlaneOutcome(
        image=image,
        status="ok",
        time=plane.time,
        z=plane.z,
        n_nuclei=written.n_nuclei,
        height=height,
        width=width,
        pixel_height_um=pixel_height,
        pixel_width_um=pixel_width,
        nuclei_per_megapixel=round(1e6 * written.n_nuclei / (height * width), 3),
        overlay_scale=overlay_scale(plane.shape),
        scale=_rounded(written.view.scale.factor),
        stain=written.view.stain,
        estimated_diameter_px=_rounded(written.diameter_px),
        expected_ap=_rounded(written.expected_ap),
        labels=labels,
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def outcome_row(outcome: PlaneOutcome) -> list[Cell]:
    """Return the row of one plane in ``images.csv``."""
    return [csv_cell(value) for value in asdict(outcome).values()]
