"""Figures of an evaluation: image, truth and prediction side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from nuclei_runtime.arrays import Image, Labels
from nuclei_runtime.metrics import iou_matrix
from nuclei_runtime.writers.overlay_png import stretch_contrast

MATCH_IOU = 0.5
MATCHED = (0.0, 0.62, 0.45)
UNMATCHED = (0.84, 0.37, 0.0)
"""Bluish green and vermillion from Okabe and Ito's palette, which colour-blind readers can distinguish."""
FILL = 0.45
"""Opacity of a nucleus. Its opaque outline separates neighbours; the fill stays visible in a reduced image."""

PANEL_INCH = 2.6
DPI = 110
MAX_ROWS = 5
"""Further images go into a second set of columns."""


@dataclass(frozen=True)
class Comparison:
    """One image to draw.

    Attributes
    ----------
    caption : str
    image : (H, W), (H, W, 3) or (H, W, 4) ndarray
    truth, predicted : (H, W) ndarray of int32
        Labels.
    """

    caption: str
    image: Image
    truth: Labels
    predicted: Labels


def draw_comparisons(path: Path, title: str, comparisons: Sequence[Comparison]) -> None:
    """Draw each image with its true and its predicted nuclei; those without a match stand out."""
    n_rows = min(len(comparisons), MAX_ROWS)
    n_groups = -(-len(comparisons) // MAX_ROWS)
    figure = Figure(figsize=(3 * PANEL_INCH * n_groups, (PANEL_INCH + 0.3) * n_rows + 0.9), layout="constrained")
    figure.suptitle(
        f"{title}\ngreen: matched at IoU above {MATCH_IOU}; orange: missed (in the truth) or false (in the prediction)",
        fontsize=10,
    )
    grid = figure.subplots(n_rows, 3 * n_groups, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for index, comparison in enumerate(comparisons):
        group, row = divmod(index, n_rows)
        _draw(grid[row, 3 * group : 3 * group + 3], comparison)
    figure.savefig(path, dpi=DPI)


def _draw(panels: Iterable[Axes], comparison: Comparison) -> None:
    picture = stretch_contrast(comparison.image)
    matches = iou_matrix(comparison.truth, comparison.predicted) > MATCH_IOU
    true_side = _paint(picture, comparison.truth, np.asarray(matches.any(axis=1)))
    predicted_side = _paint(picture, comparison.predicted, np.asarray(matches.any(axis=0)))
    names = (comparison.caption, f"truth: {matches.shape[0]}", f"prediction: {matches.shape[1]}")
    for panel, name, shown in zip(panels, names, (picture, true_side, predicted_side), strict=True):
        panel.imshow(shown, interpolation="antialiased")
        panel.set_title(name, fontsize=8)


def _paint(picture: NDArray[np.float32], labels: Labels, matched: NDArray[np.bool_]) -> NDArray[np.float32]:
    from skimage.segmentation import find_boundaries

    # Labels are 0..N in both truth and prediction, so they index a table of colours.
    colours = np.vstack([np.zeros(3), np.where(matched[:, np.newaxis], MATCHED, UNMATCHED)])[labels]
    opacity = np.where(find_boundaries(labels, mode="inner"), 1.0, FILL) * (labels > 0)
    painted = picture * (1 - opacity[..., np.newaxis]) + colours * opacity[..., np.newaxis]
    return np.asarray(painted, dtype=np.float32)
