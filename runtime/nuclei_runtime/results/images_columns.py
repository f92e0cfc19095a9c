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
        "number of nuclei in this image or plane; one that reaches through several planes of a Z stack is counted in "
        "each of them",
    ),
    "n_touching_border": ("", "of these, how many have a pixel on the edge of the image, which may cut them"),
    "n_left_out": ("", "nuclei that --exclude-border, --min-area, --max-area or --min-score left out"),
    "height": ("px", "height of the image"),
    "width": ("px", "width of the image"),
    "pixel_height_um": ("um", "height of a pixel: what the file states, or else --pixel-size"),
    "pixel_width_um": ("um", "width of a pixel: what the file states, or else --pixel-size"),
    "nuclei_per_megapixel": ("1 / million px", "density"),
    "overlay_scale": ("", "how many pixels of the image, along each side, one pixel of its overlay stands for"),
    "scale": ("", "how many times larger the network was shown the image, along each side"),
    "stain": ("", "as which stain: rgb (its own colours or grey), he or hdab"),
    "estimated_diameter_px": ("px", "median diameter of disks with the areas of the nuclei"),
    "expected_ap": (
        "",
        "how good the result is expected to be, 0 to 1; empty if nothing has structure or the model cannot tell",
    ),
    "flags": (
        "",
        "why the result may not be trusted, joined by ;: " + "; ".join(f"{flag}: {flag.reason}" for flag in Flag),
    ),
    "reason": ("", "why the image or plane failed"),
    "labels": ("", "path of its label image in the results folder"),
    "channel": (
        "",
        "what was segmented: name or index of a channel; rgb for a colour image; blue only for a colour image of which "
        "only blue holds a picture, which is then segmented as a grey image; empty for a grey image",
    ),
    "contrast_low": (
        _INTENSITY,
        "intensity that became black before the model saw the image, of the stain if stain is not rgb; empty if "
        "nothing in the image stands out",
    ),
    "contrast_high": (_INTENSITY, "intensity that became white; everything beyond is clipped"),
    "structure_share": (
        "",
        "share of the image, 0 to 1, that holds something besides noise; only this part sets the contrast",
    ),
    "glass_share": ("", "share of a large stained slide, 0 to 1, that was skipped because it shows only glass"),
    "changed_results": ("", "results that somebody has changed since; the row shows what was there before"),
    "n_unchanged": ("", "of corrected labels: nuclei with the same pixels as before the correction"),
    "n_redrawn": ("", "of corrected labels: nuclei with other pixels, each of which was one nucleus before"),
    "n_added": ("", "of corrected labels: nuclei that were not there before"),
    "n_removed": ("", "of corrected labels: nuclei from before that are gone"),
    "n_split": ("", "of corrected labels: nuclei from before that are several now"),
    "n_merged": ("", "of corrected labels: nuclei that were several before"),
    "note": (
        "",
        "what else is to be known: a --pixel-size that was not used, channels that could not be measured, and about "
        "corrected labels",
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
