"""The outcome of one plane of an image file: a row of ``images.csv``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from nuclei_runtime.arrays import COLOURS
from nuclei_runtime.readers.plane import ALL_COLOURS, Plane
from nuclei_runtime.segmentation.given_labels import Corrections
from nuclei_runtime.steps.flags import joined
from nuclei_runtime.writers.csv_cells import Cell, csv_cell
from nuclei_runtime.writers.overlay_png import overlay_scale
from nuclei_runtime.writers.plane_files import Written


@dataclass(frozen=True, eq=False)
class Segmented:
    """What is known of a plane that was segmented, from which the columns of ``images.csv`` are filled.

    Attributes
    ----------
    plane : Plane
    written : Written
        What its files contain.
    corrections : Corrections, optional
        If a person gave the labels.
    """

    plane: Plane
    written: Written
    corrections: Corrections | None = None


def _column(fill: Callable[[Segmented], Cell]) -> Any:
    """Return a column that is empty for a plane that failed; `fill` gives its value for any other."""
    return field(default=None, metadata={"fill": fill})


def _pixel_size(found: Segmented, axis: int) -> float | None:
    return None if found.plane.pixel_size_um is None else found.plane.pixel_size_um[axis]


def _limit(found: Segmented, name: str) -> float | None:
    """Return a limit of the contrast, unless there is no contrast."""
    contrast = found.written.evidence.contrast
    return None if contrast is None or contrast.high <= contrast.low else getattr(contrast, name)


def _channel(found: Segmented) -> str | None:
    channel, contrast = found.plane.channel, found.written.evidence.contrast
    if contrast is None or contrast.channel is None:
        return channel
    only = f"{COLOURS[contrast.channel]} only"
    return only if channel in (None, ALL_COLOURS) else f"{channel}, {only}"


def _note(found: Segmented) -> str | None:
    given = None if found.corrections is None else found.corrections.note
    return "; ".join([*found.plane.notes, *([] if given is None else [given])]) or None


def _changed(found: Segmented, how: str) -> int | None:
    changes = None if found.corrections is None else found.corrections.changes
    return None if changes is None else getattr(changes, how)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


@dataclass(frozen=True)
class PlaneOutcome:
    """The outcome of one plane: a row of ``images.csv``. A field is a column; `nuclei_runtime.results.images_columns`
    describes them.

    Attributes
    ----------
    image : str
        The file's path relative to the folder that was named, with ``/``.
    status : str
        ``ok`` or ``failed``.
    scene : str, optional
        Which of the file's images it is: `nuclei_runtime.readers.plane.Plane.scene_label`.
    well, field : str, optional
        Where on a plate it was taken.
    time, z : int, optional
        Which of the file's planes it is, counted from 0. `scene` and all that follow are None where they do not apply.
    n_nuclei, n_touching_border : int, optional
        All nuclei, and those with a pixel on the edge of the plane.
    n_left_out : int, optional
        Nuclei that were found and left out; see `nuclei_runtime.steps.sieve`.
    height, width : int, optional
        In pixels.
    pixel_height_um, pixel_width_um : float, optional
        In micrometres, if it is known.
    nuclei_per_megapixel : float, optional
    overlay_scale : int, optional
        See `nuclei_runtime.writers.overlay_png.overlay_scale`.
    scale : float, optional
        How many times larger than the plane the network saw it, along each side.
    stain : str, optional
        As which stain; see `nuclei_runtime.steps.view.View`.
    tta : bool, optional
        Whether the network was also shown the plane twice as large as `scale` says.
    estimated_diameter_px : float, optional
        Median diameter of disks with the areas of the nuclei.
    expected_ap : float, optional
        See `nuclei_runtime.segmentation.result.Segmentation`.
    flags : str, optional
        Why the result may not be trusted: values of `nuclei_runtime.steps.flags.Flag`, joined by ``;``.
    reason : str, optional
        Why the plane, or the whole file, failed.
    labels : str, optional
        The label image, relative to the results folder, with ``/``; None if it is not saved.
    channel : str, optional
        Which channel was segmented: a name or an index; ``rgb`` for a colour image; ``blue only`` for a colour image
        of which only blue holds a picture.
    contrast_low, contrast_high : float, optional
        The intensities, in the units of the file, that became black and white for the model; None if nothing in the
        image stands out.
    structure_share : float, optional
        Share of the image that holds something beside noise, 0 to 1; it sets the contrast.
    glass_share : float, optional
        Share of a large stained slide that was skipped because it shows only glass, 0 to 1.
    changed_results : str, optional
        Results of the file that somebody has changed since, such as a label image that was corrected: the row is of
        the results as they were.
    n_unchanged, n_redrawn, n_added, n_removed, n_split, n_merged : int, optional
        How many nuclei a person changed, and how; see `nuclei_runtime.steps.label_changes.LabelChanges`.
    note : str, optional
        What else is to be known: of the plane, and of labels that a person gave.
    """

    image: str
    status: str
    scene: str | None = _column(lambda found: found.plane.scene_label)
    well: str | None = _column(lambda found: found.plane.well)
    field: str | None = _column(lambda found: found.plane.field)
    time: int | None = _column(lambda found: found.plane.time)
    z: int | None = _column(lambda found: found.plane.z)
    n_nuclei: int | None = _column(lambda found: found.written.n_nuclei)
    n_touching_border: int | None = _column(lambda found: found.written.n_touching_border)
    n_left_out: int | None = _column(lambda found: found.written.n_left_out)
    height: int | None = _column(lambda found: found.plane.shape[0])
    width: int | None = _column(lambda found: found.plane.shape[1])
    pixel_height_um: float | None = _column(lambda found: _pixel_size(found, 0))
    pixel_width_um: float | None = _column(lambda found: _pixel_size(found, 1))
    nuclei_per_megapixel: float | None = _column(
        lambda found: round(1e6 * found.written.n_nuclei / (found.plane.shape[0] * found.plane.shape[1]), 3)
    )
    overlay_scale: int | None = _column(lambda found: overlay_scale(found.plane.shape))
    scale: float | None = _column(
        lambda found: None if found.corrections is not None else round(found.written.view.scale.factor, 3)
    )
    stain: str | None = _column(lambda found: None if found.corrections is not None else found.written.view.stain)
    tta: bool | None = _column(lambda found: None if found.corrections is not None else found.written.view.tta)
    estimated_diameter_px: float | None = _column(lambda found: _rounded(found.written.diameter_px))
    expected_ap: float | None = _column(lambda found: _rounded(found.written.evidence.expected_ap))
    flags: str | None = _column(lambda found: None if found.corrections is not None else joined(found.written.flags))
    reason: str | None = None
    labels: str | None = None
    channel: str | None = _column(_channel)
    contrast_low: float | None = _column(lambda found: _limit(found, "low"))
    contrast_high: float | None = _column(lambda found: _limit(found, "high"))
    structure_share: float | None = _column(
        lambda found: None if found.written.evidence.contrast is None else found.written.evidence.contrast.structure
    )
    glass_share: float | None = _column(lambda found: _rounded(found.written.glass_share))
    changed_results: str | None = None
    n_unchanged: int | None = _column(lambda found: _changed(found, "unchanged"))
    n_redrawn: int | None = _column(lambda found: _changed(found, "redrawn"))
    n_added: int | None = _column(lambda found: _changed(found, "added"))
    n_removed: int | None = _column(lambda found: _changed(found, "removed"))
    n_split: int | None = _column(lambda found: _changed(found, "split"))
    n_merged: int | None = _column(lambda found: _changed(found, "merged"))
    note: str | None = _column(_note)


IMAGES_COLUMNS = tuple(column.name for column in fields(PlaneOutcome))


def segmented(image: str, found: Segmented, labels: str | None) -> PlaneOutcome:
    """Return the outcome of a plane whose outputs are written."""
    filled = {
        column.name: column.metadata["fill"](found) for column in fields(PlaneOutcome) if "fill" in column.metadata
    }
    return PlaneOutcome(image, "ok", labels=labels, **filled)


def outcome_row(outcome: PlaneOutcome) -> list[Cell]:
    """Return the row of one plane in ``images.csv``."""
    return [csv_cell(value) for value in asdict(outcome).values()]


@dataclass(frozen=True)
class Verified:
    """One comparison.

    Attributes
    ----------
    name : str
        An image, or a file of the results folder.
    differences : tuple of str
        Empty if nothing differs.
    """

    name: str
    differences: tuple[str, ...]
