"""The data dictionary of ``images.csv``: what each of its columns means."""

from __future__ import annotations

from typing import get_args, get_type_hints

from nuclei_runtime.results.outcome import PlaneOutcome
from nuclei_runtime.steps.columns import Column, describe_column
from nuclei_runtime.steps.flags import Flag

_INTENSITY = "intensity units of the file"

_OF_BOTH = ("image", "condition", "scene", "well", "field", "time", "z")
"""What tells the rows of one plane from those of others has the same meaning in ``nuclei.csv``."""

_MEANINGS = {
    "status": ("", "ok or failed"),
    "n_nuclei": (
        "",
        "number of nuclei in this image or plane; a nucleus that extends through several planes of a Z stack is "
        "counted in each of them",
    ),
    "n_touching_border": ("", "how many of these touch the edge of the image, which may cut them"),
    "n_left_out": ("", "nuclei that --exclude-border, --min-area, --max-area or --min-score left out"),
    "height": ("px", "height of the image"),
    "width": ("px", "width of the image"),
    "pixel_height_um": ("um", "height of a pixel: what the file states, or else --pixel-size"),
    "pixel_width_um": ("um", "width of a pixel: what the file states, or else --pixel-size"),
    "nuclei_per_megapixel": ("1 / million px", "density"),
    "overlay_scale": ("", "how many times smaller the overlay is than the image, along each side"),
    "scale": ("", "factor by which the image was enlarged for the network, along each side"),
    "stain": ("", "what the network saw: rgb (the image as it is, colour or grey), or the stain he or hdab"),
    "tta": ("", "true if the network was also shown the image enlarged (--tta), otherwise false"),
    "estimated_diameter_px": ("px", "median diameter of the nuclei, as disks of equal area"),
    "expected_ap": (
        "",
        "estimated AP@0.5 of the result, 0 to 1; empty if nothing has structure or the model cannot estimate it",
    ),
    "flags": (
        "",
        "reasons to doubt the result, separated by ;: " + "; ".join(f"{flag}: {flag.reason}" for flag in Flag),
    ),
    "reason": ("", "why the image or plane failed"),
    "labels": ("", "path of its label image in the results folder"),
    "channel": (
        "",
        "what was segmented: the name or index of a channel; rgb for a colour image; 'blue only' for a colour image "
        "with a picture in blue alone, which is segmented as a grey image; empty for a grey image",
    ),
    "contrast_low": (
        _INTENSITY,
        "intensity that the contrast stretch mapped to black (of the stain, if stain is not rgb); empty if nothing in "
        "the image stands out",
    ),
    "contrast_high": (_INTENSITY, "intensity that the contrast stretch mapped to white; higher values are clipped"),
    "structure_share": (
        "",
        "share of the image, 0 to 1, that contains more than noise; only this part sets the contrast",
    ),
    "glass_share": ("", "share of a large stained slide, 0 to 1, that was skipped because it shows only glass"),
    "changed_results": ("", "results that somebody has changed since; the row shows what was there before"),
    "n_unchanged": ("", "of corrected labels: nuclei with the same pixels as before the correction"),
    "n_redrawn": ("", "of corrected labels: nuclei whose pixels changed, without a split or merge"),
    "n_added": ("", "of corrected labels: new nuclei"),
    "n_removed": ("", "of corrected labels: earlier nuclei that were removed"),
    "n_split": ("", "of corrected labels: earlier nuclei that were split"),
    "n_merged": ("", "of corrected labels: nuclei that were merged from several"),
    "note": (
        "",
        "other remarks: a --pixel-size that was not used, channels that could not be measured, and notes on corrected "
        "labels",
    ),
}

_TYPES = get_type_hints(PlaneOutcome)


def describe_images_column(name: str) -> Column | None:
    """Return what a column of ``images.csv`` means; None if this version does not know it."""
    if name in _OF_BOTH:
        return describe_column(name)
    if name not in _MEANINGS:
        return None
    unit, meaning = _MEANINGS[name]
    types = _TYPES[name]
    kind = next(one for one in (*get_args(types), types) if isinstance(one, type))
    return Column(name, unit, meaning, kind=kind)
