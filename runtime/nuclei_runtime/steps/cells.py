"""Grows nuclei into cells, by a distance and without overlap: pixels belong to the nearest nucleus."""

from __future__ import annotations

import re
from dataclasses import dataclass

from nuclei_runtime.arrays import Labels
from nuclei_runtime.errors import ImageValueError, InputsError
from nuclei_runtime.steps.physical import ROUNDING

MAX_GROWTH_PX = 128
"""A block is measured in a window with twice this margin around it; a larger window might not fit into memory. It is
8 um at the finest pixels that microscopes use."""

_DISTANCE = re.compile(r"(\d+(?:\.\d+)?) ?(px|[uµ\u03bc]m)", re.ASCII)


@dataclass(frozen=True)
class Growth:
    """How far nuclei grow in an image with pixels of a given size.

    Attributes
    ----------
    distance : float
    spacing : (float, float)
        Height and width of a pixel, in the unit of the distance.
    """

    distance: float
    spacing: tuple[float, float]

    @property
    def reach(self) -> float:
        """The distance, and a little more: three pixels of 0.65 um, multiplied, are more than 1.95 um."""
        return self.distance * (1 + ROUNDING)

    @property
    def margin_px(self) -> int:
        """How many rows or columns, at most, a cell reaches beyond its nucleus."""
        return int(self.reach / min(self.spacing))

    def grow(self, labels: Labels) -> Labels:
        """Return the cells of the nuclei in an (H, W) label image, with the numbers of their nuclei."""
        from skimage.segmentation import expand_labels

        if not labels.any():  # the distance to the nearest of no nuclei is not defined
            return labels
        cells: Labels = expand_labels(labels, self.reach, self.spacing)
        return cells


@dataclass(frozen=True)
class Expansion:
    """How far nuclei grow, in pixels or in micrometres.

    Attributes
    ----------
    distance : float
        Above 0.
    unit : str
        ``px`` or ``um``.
    """

    distance: float
    unit: str

    def __str__(self) -> str:
        return f"{self.distance:g}{self.unit}"

    def growth(self, pixel_size_um: tuple[float, float] | None) -> Growth:
        """Return how far nuclei grow in an image.

        Raises
        ------
        ImageValueError
            The distance is in micrometres and the size of a pixel is not known; or it is above `MAX_GROWTH_PX`.
        """
        if self.unit == "um" and pixel_size_um is None:
            raise ImageValueError(
                f"the option --expand {self} needs the pixel size, which the file does not state: give it with "
                "--pixel-size, or give the distance in pixels"
            )
        spacing = (1.0, 1.0) if self.unit == "px" or pixel_size_um is None else pixel_size_um
        growth = Growth(self.distance, spacing)
        if growth.margin_px > MAX_GROWTH_PX:
            raise ImageValueError(
                f"the distance of --expand {self} is {growth.margin_px} pixels here, expected at most {MAX_GROWTH_PX}; "
                "give a smaller one"
            )
        return growth


def parse_expansion(text: str) -> Expansion:
    """Return the distance that a text such as ``3um`` or ``12px`` names.

    Raises
    ------
    InputsError
        It names none.
    """
    found = _DISTANCE.fullmatch(text.strip())
    if found is None or not float(found[1]):
        raise InputsError(f"distance {text!r}: expected a number above 0 with its unit, such as 3um or 12px")
    return Expansion(float(found[1]), "px" if found[2] == "px" else "um")
