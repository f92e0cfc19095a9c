"""The table of the nuclei of an image, or of a block of one: everything that is measured, column by column."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.arrays import Image, Labels
from nuclei_runtime.steps.columns import in_order
from nuclei_runtime.steps.measure import Measures, Regions, axis_lengths, measure_intensities, measure_shapes
from nuclei_runtime.steps.score import Scores

_SQUARE_TOLERANCE = 1e-3
"""Pixels whose height and width differ by less count as square, because files store rounded pixel sizes."""


def measure_nuclei(
    image: Image,
    labels: Labels,
    *,
    pixel_size_um: tuple[float, float] | None = None,
    channels: Mapping[str, Callable[[], Image]] | None = None,
    cells: Labels | None = None,
    origin: tuple[int, int] = (0, 0),
    shape: tuple[int, ...] | None = None,
    scores: Scores | None = None,
) -> Measures:
    """Measure each nucleus.

    Parameters
    ----------
    image : (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) ndarray
        Intensities are those of the mean of its colours, without alpha.
    labels : (H, W) ndarray of int32
        Complete nuclei.
    pixel_size_um : (float, float), optional
        Height and width of a pixel. Without it, there are no columns in micrometres.
    channels : mapping of str to callable, optional
        Channels whose intensities are measured too: for each name a function that returns an image of the same size.
        One at a time is kept in memory.
    cells : (H, W) ndarray of int32, optional
        The nuclei, grown: each with the number of its nucleus, which it contains. Intensities are measured in them and
        in the rings around the nuclei as well.
    origin : (int, int)
        Row and column where a block begins in its plane.
    shape : (int, ...), optional
        Height and width of the plane. Without it, `image` is the plane.
    scores : (n,) ndarray of float64, optional
        Of the nuclei, in the order of their numbers.

    Returns
    -------
    dict
        Arrays by name, with one value per nucleus in the order of their numbers; NaN where there is no value.
        `nuclei_runtime.steps.columns` describes them and gives their order.
    """
    regions = Regions.of(labels)
    table = measure_shapes(regions, labels)
    for axis, names in enumerate((("row", "top", "bottom"), ("column", "left", "right"))):
        for name in (f"centroid_{names[0]}_px", *(f"bbox_{edge}_px" for edge in names[1:])):
            table[name] = table[name] + origin[axis]
    height, width = (shape or labels.shape)[:2]
    table["touches_border"] = (
        (table["bbox_top_px"] == 0)
        | (table["bbox_left_px"] == 0)
        | (table["bbox_bottom_px"] == height)
        | (table["bbox_right_px"] == width)
    )
    if scores is not None:
        table["score"] = scores
    if pixel_size_um is not None:
        _add_micrometres(table, regions, pixel_size_um)
    parts = {"": regions}
    if cells is not None:
        parts |= {"cell_": Regions.of(cells), "ring_": Regions.of(np.where(labels > 0, 0, cells))}
        table["cell_area_px"] = parts["cell_"].sizes.astype(np.float64)
        if pixel_size_um is not None:
            table["cell_area_um2"] = table["cell_area_px"] * (pixel_size_um[0] * pixel_size_um[1])
    for channel, read in {"": lambda: image, **{f":{name}": read for name, read in (channels or {}).items()}}.items():
        values = read()
        for part, pixels in parts.items():
            for statistic, found in measure_intensities(pixels, values).items():
                table[f"{part}intensity_{statistic}{channel}"] = _of_all(regions, pixels, found)
    return {name: table[name] for name in in_order(table)}


def _add_micrometres(table: Measures, regions: Regions, pixel_size_um: tuple[float, float]) -> None:
    """Add the columns in micrometres.

    scikit-image adds up steps along the border (Benkrid and Crookes), whose lengths are known for square pixels only:
    for others there is no perimeter in micrometres, and no circularity.
    """
    height, width = pixel_size_um
    area = table["area_px"] * (height * width)
    table["area_um2"] = area
    table["centroid_row_um"] = table["centroid_row_px"] * height
    table["centroid_column_um"] = table["centroid_column_px"] * width
    table["equivalent_diameter_um"] = np.sqrt(4 * area / np.pi)
    if abs(height / width - 1) < _SQUARE_TOLERANCE:
        table["perimeter_um"] = table["perimeter_px"] * height
        axes = table["major_axis_px"] * height, table["minor_axis_px"] * height
    else:
        del table["circularity"]
        axes = axis_lengths(regions, pixel_size_um)
    table["major_axis_um"], table["minor_axis_um"] = axes


def _of_all(regions: Regions, pixels: Regions, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return one value per nucleus: NaN for those that have no such pixels, as a ring may have none."""
    if pixels.numbers.size == regions.numbers.size:
        return values
    all_values = np.full(regions.numbers.size, np.nan)
    all_values[np.searchsorted(regions.numbers, pixels.numbers)] = values
    return all_values
