"""The data dictionary of the nuclei table: every column that it can have, in its order.

A table has the columns that apply to its image. Those per channel have the channel's name after a colon.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from nuclei_runtime.arguments import check_argument, is_text

STATISTICS = {
    "mean": ("mean", "sum of the intensities / number of pixels"),
    "sum": ("sum", "sum of the intensities of all pixels, without subtracting a background"),
    "min": ("minimum", ""),
    "max": ("maximum", ""),
    "sd": ("standard deviation", "sqrt(mean of (intensity - mean)^2), over all pixels"),
}
"""What is measured of intensities: for each statistic its name in words, and its formula."""

CHANNEL = "NAME"
"""Stands for the name of a channel in the name of a `Column`."""

_INTENSITY, _OF_CHANNEL = "intensity units of the file", ":"
_REGIONS = {
    "": "of the nucleus",
    "cell_": "of the cell: the nucleus and the ring around it",
    "ring_": "of the ring: the cell without its nucleus; empty if neighbours leave no ring",
}


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes
    ----------
    name : str
        For columns per channel, it ends in a colon and `CHANNEL`, or in the name of the channel.
    unit : str
        Empty for names, numbers and ratios.
    meaning : str
    formula : str
        How it is computed, and where the formula is from; empty if the meaning says it all.
    kind : type
        Of its values: str, bool, int or float.
    """

    name: str
    unit: str
    meaning: str
    formula: str = ""
    kind: type = field(default_factory=lambda: float)  # a bare class would be documented as a class of its own


def _intensities() -> Iterable[Column]:
    for region, words in _REGIONS.items():
        if region == "cell_":
            yield Column("cell_area_px", "px", "area of the cell: the nucleus and the ring around it")
            yield Column("cell_area_um2", "um2", "the same in square micrometres", "cell_area_px x area of a pixel")
        for channel, of_which in (("", "the segmented channel"), (_OF_CHANNEL + CHANNEL, "the channel NAME")):
            for statistic, (statistic_words, formula) in STATISTICS.items():
                meaning = f"{statistic_words} intensity {words}; {of_which}"
                yield Column(f"{region}intensity_{statistic}{channel}", _INTENSITY, meaning, formula)


_MOMENTS = "of the ellipse with the same second moments as the nucleus, whose pixels count as points (scikit-image)"

NUCLEI_COLUMNS = (
    Column("image", "", "name of the image file, relative to the folder that was named", kind=str),
    Column("condition", "", "condition of the image, from the table of conditions", kind=str),
    Column(
        "scene",
        "",
        "name of the image in a file that holds several, or its index; both if the name is not its own",
        kind=str,
    ),
    Column("well", "", "well of the plate", kind=str),
    Column("field", "", "field (site) of the well", kind=str),
    Column("time", "", "index of the time point, from 0", kind=int),
    Column("z", "", "index of the plane of a Z stack, from 0", kind=int),
    Column("label", "", "number of the nucleus in the label image, from 1", kind=int),
    Column(
        "touches_border",
        "",
        "true if a pixel of the nucleus lies on the edge of the image, which may cut it",
        kind=bool,
    ),
    Column(
        "score",
        "",
        "probability that the nucleus is right (IoU above 0.5), 0 to 1; missing for given labels and older models",
        "logistic regression on the network's maps in the nucleus and along its outline, and on expected_ap",
    ),
    Column("area_px", "px", "area", "number of pixels"),
    Column("area_um2", "um2", "area", "area_px x height x width of a pixel"),
    Column("centroid_row_px", "px", "row of the centre; 0 is the centre of the first row", "mean row of the pixels"),
    Column("centroid_column_px", "px", "column of the centre", "mean column of the pixels"),
    Column("centroid_row_um", "um", "row of the centre", "centroid_row_px x height of a pixel"),
    Column("centroid_column_um", "um", "column of the centre", "centroid_column_px x width of a pixel"),
    Column("bbox_top_px", "px", "first row of the bounding box", kind=int),
    Column("bbox_left_px", "px", "first column of the bounding box", kind=int),
    Column("bbox_bottom_px", "px", "the row after the last one of the bounding box", kind=int),
    Column("bbox_right_px", "px", "the column after the last one of the bounding box", kind=int),
    Column("major_axis_px", "px", f"length of the major axis {_MOMENTS}", "4 sqrt(larger eigenvalue of the moments)"),
    Column("minor_axis_px", "px", "length of the minor axis of that ellipse", "4 sqrt(smaller eigenvalue)"),
    Column("major_axis_um", "um", "the same in micrometres, from moments in micrometres"),
    Column("minor_axis_um", "um", "the same in micrometres, from moments in micrometres"),
    Column("eccentricity", "", "of that ellipse in pixels: 0 is a circle, 1 a line", "sqrt(1 - minor^2 / major^2)"),
    Column("orientation_rad", "rad", "angle of the major axis to the rows' axis (downwards), -pi/2 to pi/2, in pixels"),
    Column(
        "perimeter_px",
        "px",
        "length of the outline",
        "steps along the border pixels, weighted (Benkrid and Crookes 2000; scikit-image perimeter)",
    ),
    Column("perimeter_um", "um", "the same in micrometres; only for square pixels", "perimeter_px x side of a pixel"),
    Column("equivalent_diameter_px", "px", "diameter of a disk with the same area", "sqrt(4 area_px / pi)"),
    Column("equivalent_diameter_um", "um", "diameter of a disk with the same area", "sqrt(4 area_um2 / pi)"),
    Column(
        "circularity",
        "",
        "1 for a disk, less for other shapes; above 1 for small nuclei, whose outlines are short of steps; only for "
        "square pixels, and empty for a single one",
        "4 pi area / perimeter^2",
    ),
    Column(
        "solidity",
        "",
        "1 for a convex nucleus, less with dents",
        "area_px / pixels in the convex hull (scikit-image convex_hull_image)",
    ),
    *_intensities(),
)
"""Every column that ``nuclei.csv`` can have."""

OLD_NAMES = {
    "area": "area_px",
    "centroid-0": "centroid_row_px",
    "centroid-1": "centroid_column_px",
    "bbox-0": "bbox_top_px",
    "bbox-1": "bbox_left_px",
    "bbox-2": "bbox_bottom_px",
    "bbox-3": "bbox_right_px",
    "axis_major_length": "major_axis_px",
    "axis_minor_length": "minor_axis_px",
    "orientation": "orientation_rad",
    "perimeter": "perimeter_px",
    "equivalent_diameter_area": "equivalent_diameter_px",
    "centroid_um-0": "centroid_row_um",
    "centroid_um-1": "centroid_column_um",
    "axis_major_length_um": "major_axis_um",
    "axis_minor_length_um": "minor_axis_um",
}
"""Names of columns that earlier versions wrote, and what they are called now."""

_BY_NAME = {column.name: column for column in NUCLEI_COLUMNS}
_RANKS = {name: rank for rank, name in enumerate(_BY_NAME)}


def describe_column(name: str) -> Column | None:
    """Return what a column of a nuclei table means; None if this version does not know it.

    Parameters
    ----------
    name : str
        As in the table: ``area_px``, or ``intensity_mean:DAPI`` for the channel DAPI.

    Raises
    ------
    ArgumentError
        This is no text.
    """
    check_argument(is_text(name), "name", "the name of a column, as text", name)
    family, colon, channel = name.partition(_OF_CHANNEL)
    if not colon:
        return _BY_NAME.get(name)
    column = _BY_NAME.get(f"{family}{_OF_CHANNEL}{CHANNEL}")
    if column is None or not channel:
        return None
    return replace(column, name=name, meaning=column.meaning.replace(CHANNEL, channel))


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names of columns in the order of the table, each once. Those that are not known are left out.

    Channels are in the order in which they first appear.
    """
    channels: dict[str, int] = {}
    ranks: dict[str, tuple[int, int, int]] = {}
    for name in names:
        if describe_column(name) is None:
            continue
        family, colon, channel = name.partition(_OF_CHANNEL)
        rank = _RANKS[f"{family}{colon}{CHANNEL if colon else ''}"]
        if not colon:
            ranks[name] = (rank, 0, 0)
            continue
        statistic = [*STATISTICS].index(family.rpartition("_")[2])
        ranks[name] = (rank - statistic, channels.setdefault(channel, len(channels)), statistic)
    return tuple(sorted(ranks, key=ranks.__getitem__))
