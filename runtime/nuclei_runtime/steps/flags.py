"""Flags: why the result of an image may not be trusted, and what to do about it.

A flag is raised by what is measured of an image while its nuclei are found; see `nuclei_runtime.steps.evidence`. What
can be said of every image is decided here; what is ordinary for a network is in the ``flags`` of its model card, fitted
on its training and validation images.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from nuclei_runtime.arguments import check_argument, is_whole
from nuclei_runtime.json_fields import Fields
from nuclei_runtime.steps.evidence import Evidence
from nuclei_runtime.steps.novelty import Familiar, take_familiar


class Flag(StrEnum):
    """Why the result of an image may not be trusted. Its value is the short name in ``images.csv``.

    Attributes
    ----------
    reason : str
        In words.
    advice : str
        What to do.
    """

    reason: str
    advice: str

    def __new__(cls, name: str, reason: str = "", advice: str = "") -> Self:
        """Make a member; ``Flag(name)`` returns it."""
        flag = str.__new__(cls, name)
        flag._value_, flag.reason, flag.advice = name, reason, advice
        return flag

    BLANK = (
        "blank",
        "nothing in the image stands out from its noise, so no nuclei can be found",
        "if the field is empty, nothing is wrong; otherwise check the shutter, the channel and the exposure",
    )
    NOTHING_FOUND = (
        "nothing_found",
        "the image contains more than noise, but no nuclei were found in it",
        "look at it; if there are nuclei, check the channel, or give their --diameter",
    )
    FLAT = (
        "flat",
        "nearly all neighbouring pixels are equal, as in masks and label images, but not in microscope images",
        "keep masks and label images in another folder; if this is an image, use it as it was before filtering",
    )
    CONTRAST = (
        "contrast",
        "the brightest parts lie far above the range of the contrast stretch; if they are nuclei "
        "and not debris, their outlines are too wide",
        "use the image before it was smoothed or denoised, or crop it to the part with nuclei",
    )
    SATURATED = (
        "saturated",
        "much of the nuclei's area has the highest or the lowest value in the image, which hides their edges",
        "look at the outlines; retake the image with a shorter exposure, or do not use the intensities",
    )
    OUT_OF_FOCUS = (
        "out_of_focus",
        "the edges of the nuclei are blurred, so their areas are uncertain",
        "look at the outlines; refocus and retake the image, or leave it out",
    )
    NUCLEUS_SIZE = (
        "nucleus_size",
        "at the chosen scale, the nuclei are much smaller or larger than the training nuclei: they may be pieces or "
        "clumps",
        "look at the outlines; if they are wrong, give the median diameter of the nuclei with --diameter",
    )
    UNFAMILIAR = (
        "unfamiliar",
        "the colours or textures differ from those of all training images",
        "look at the outlines; if they are wrong, try --stain or --channel, or fine-tune the model on such images",
    )
    LOW_EXPECTED_AP = (
        "low_expected_ap",
        "the network is less certain of its nuclei than usual, or than --min-quality requires: many may be wrong",
        "look at the outlines; try --diameter, --stain or --channel, correct the labels, or fine-tune the model",
    )


MAX_FLATNESS = 0.95
"""`Evidence.flatness` was at least 0.99 for 12 label images of other laboratories, 1 for masks made from these, and at
most 0.77 for 60 images of `train`, `val` and other laboratories."""


@dataclass(frozen=True)
class FlagLimits:
    """What a model card says about ordinary images.

    Attributes
    ----------
    min_expected_ap : float
        Without ``--min-quality``, images with a lower `Evidence.expected_ap` are flagged.
    min_size, max_size : float
    max_saturation : float
    min_sharpness : float
    max_novelty : float
    familiar : Familiar
        What the training images look like.
    """

    min_expected_ap: float
    min_size: float
    max_size: float
    max_saturation: float
    min_sharpness: float
    max_novelty: float
    familiar: Familiar


def flags_of(evidence: Evidence, limits: FlagLimits | None, min_quality: float | None) -> tuple[Flag, ...]:
    """Return why the result of an image may not be trusted, in the order of `Flag`, if there are nuclei in it.

    Parameters
    ----------
    evidence : Evidence
    limits : FlagLimits, optional
        Of the model card.
    min_quality : float, optional
        What the user asks for instead of `FlagLimits.min_expected_ap`, 0 to 1.
    """
    if evidence.contrast is not None and evidence.contrast.is_blank:
        return (Flag.BLANK,)
    if min_quality is None and limits is not None:
        min_quality = limits.min_expected_ap
    raised = {
        Flag.FLAT: _is_above(evidence.flatness, MAX_FLATNESS),
        Flag.CONTRAST: evidence.contrast is not None and evidence.contrast.is_exceeded,
        Flag.LOW_EXPECTED_AP: _is_above(min_quality, evidence.expected_ap),
    }
    if limits is not None:
        raised |= {
            Flag.SATURATED: _is_above(evidence.saturation, limits.max_saturation),
            Flag.OUT_OF_FOCUS: _is_above(limits.min_sharpness, evidence.sharpness),
            Flag.NUCLEUS_SIZE: _is_above(evidence.size, limits.max_size) or _is_above(limits.min_size, evidence.size),
            Flag.UNFAMILIAR: _is_above(evidence.novelty, limits.max_novelty),
        }
    return tuple(flag for flag in Flag if raised.get(flag, False))


def complete_flags(flags: tuple[Flag, ...], n_found: int) -> tuple[Flag, ...]:
    """Return the flags of an image once it is known how many nuclei there are in it, with those that were left out.

    Raises
    ------
    ArgumentError
        These are no flags, or no number.
    """
    are_flags = isinstance(flags, tuple | list) and all(isinstance(flag, Flag) for flag in flags)
    check_argument(are_flags, "flags", "a tuple of Flag, as `Block.flags` has them", flags)
    check_argument(is_whole(n_found), "n_found", "the number of nuclei", n_found)
    if n_found or Flag.BLANK in flags:
        return flags
    return (Flag.NOTHING_FOUND, *(flag for flag in flags if flag in (Flag.FLAT, Flag.CONTRAST, Flag.UNFAMILIAR)))


def _is_above(value: float | None, limit: float | None) -> bool:
    """Whether a value is above a limit, if both are known."""
    return value is not None and limit is not None and value > limit


def joined(flags: Iterable[Flag]) -> str | None:
    """Return flags as one cell of a table, ``blank;contrast``; None if there are none."""
    return ";".join(flags) or None


def split(cell: str) -> tuple[Flag, ...]:
    """Return the flags that a cell of a table names, without those of other versions that this one does not know."""
    names = cell.split(";")
    return tuple(flag for flag in Flag if flag.value in names)


MAX_SIZE = 100.0
MAX_DISTANCE = 1e6


def take_flag_limits(reader: Fields) -> FlagLimits:
    """Return what the ``flags`` of a model card describe, and note their problems."""
    limits = FlagLimits(
        min_expected_ap=reader.number("min_expected_ap", 0, 1),
        min_size=reader.number("min_size", 0, MAX_SIZE),
        max_size=reader.number("max_size", 0, MAX_SIZE),
        max_saturation=reader.number("max_saturation", 0, 1),
        min_sharpness=reader.number("min_sharpness", 0, 1),
        max_novelty=reader.number("max_novelty", 0, MAX_DISTANCE),
        familiar=take_familiar(reader.object("familiar")),
    )
    reader.close()
    return limits
