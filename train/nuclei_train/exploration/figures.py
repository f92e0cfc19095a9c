"""Figures of a data set: a sample of its images with their masks, and histograms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from nuclei_runtime.arrays import Image, Labels
from nuclei_runtime.wording import counted
from nuclei_runtime.writers.overlay_png import draw_overlay

PAIRS_IN_A_ROW = 2
PANEL_INCH = 2.8
DPI = 110

SIZES_SHOWN = 12
"""The most common sizes; all others share one more bar."""


@dataclass(frozen=True)
class SamplePicture:
    """One image to draw.

    Attributes
    ----------
    image_id, modality : str
    image : (H, W), (H, W, 3) or (H, W, 4) ndarray
    labels : (H, W) ndarray of int32
        All 0 if there is no truth.
    """

    image_id: str
    modality: str
    image: Image
    labels: Labels


def draw_gallery(path: Path, pictures: Sequence[SamplePicture]) -> None:
    """Draw each image with stretched contrast and, next to it, its masks in different colours."""
    n_rows = max(-(-len(pictures) // PAIRS_IN_A_ROW), 1)
    size = (2 * PAIRS_IN_A_ROW * PANEL_INCH, n_rows * (PANEL_INCH + 0.3) + 0.4)
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle("A random sample of the images, with their masks" if pictures else "No image can be drawn")
    grid = figure.subplots(n_rows, 2 * PAIRS_IN_A_ROW, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for picture, (left, right) in zip(pictures, grid.reshape(-1, 2), strict=False):
        stretched = draw_overlay(picture.image, np.zeros_like(picture.labels))
        left.imshow(stretched)
        left.set_title(f"{picture.image_id[:12]}\n{picture.modality.replace('_', ' ')}", fontsize=8)
        right.imshow(_painted(stretched, picture.labels))
        n_nuclei = int(picture.labels.max())
        height, width = picture.labels.shape
        count = counted(n_nuclei, "nucleus", "nuclei")
        right.set_title(f"{count}\n{height} x {width} px" if n_nuclei else "no masks", fontsize=8)
    figure.savefig(path, dpi=DPI)


def draw_histograms(path: Path, images: pd.DataFrame, areas_px: NDArray[np.int64]) -> None:
    """Draw image sizes, nuclei per image, areas of nuclei and mean intensities.

    Parameters
    ----------
    images : DataFrame
        See `nuclei_train.exploration.explore.Exploration`.
    areas_px : ndarray of int
    """
    figure = Figure(figsize=(11, 8), layout="constrained")
    (sizes, counts), (areas, intensities) = figure.subplots(2, 2)
    _draw_sizes(sizes, images)
    n_nuclei = images["n_nuclei"].dropna().to_numpy(np.int64)
    if_none = "no nuclei" if len(n_nuclei) else "no truth"
    _draw_logarithmic(counts, n_nuclei, "Nuclei per image", "nuclei", "images", if_none)
    _draw_logarithmic(areas, areas_px, "Area of nuclei", "area in px", "nuclei", if_none)
    _draw_intensities(intensities, images)
    figure.savefig(path, dpi=DPI)


def _painted(picture: NDArray[np.uint8], labels: Labels) -> NDArray[np.float64]:
    from skimage.color import label2rgb
    from skimage.segmentation import find_boundaries

    colours = label2rgb(labels, picture, alpha=0.5, bg_label=0, saturation=1)
    painted = np.where(labels[..., np.newaxis] > 0, colours, picture / 255)  # label2rgb alone would dim the background
    painted[find_boundaries(labels, mode="inner")] = 1.0  # white outlines separate neighbours of the same colour
    return painted


def _draw_sizes(axes: Axes, images: pd.DataFrame) -> None:
    known = images.dropna(subset=["height", "width"])
    sizes = (known["height"].astype(str) + " x " + known["width"].astype(str)).value_counts()
    shown = sizes.iloc[:SIZES_SHOWN].to_dict()
    if len(sizes) > SIZES_SHOWN:
        shown[f"{len(sizes) - SIZES_SHOWN} other sizes"] = int(sizes.iloc[SIZES_SHOWN:].sum())
    bars = axes.barh(list(shown), list(shown.values()))
    axes.bar_label(bars, padding=2, fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set(title="Image sizes, height x width in px", xlabel="images")


def _draw_logarithmic(
    axes: Axes, values: NDArray[np.int64], title: str, label: str, counted: str, if_none: str
) -> None:
    """Draw a histogram on a logarithmic scale, which has no place for 0: how often that occurs is said in words."""
    positive = values[values > 0]
    n_zero = len(values) - len(positive)
    scale = f"log scale; {n_zero:,} at 0 not shown" if n_zero else "log scale"
    axes.set(title=title, xlabel=f"{label} ({scale})", ylabel=counted)
    if not len(positive):
        axes.text(0.5, 0.5, if_none, transform=axes.transAxes, ha="center")
        return
    axes.hist(positive, bins=np.geomspace(positive.min() - 0.5, positive.max() + 0.5, 41).tolist())
    axes.set_xscale("log")
    median = float(np.median(values))
    if median > 0:
        axes.axvline(median, color="black", linestyle=":")
    axes.plot([], [], color="black", linestyle=":", label=f"median {median:g}")
    axes.legend()


def _draw_intensities(axes: Axes, images: pd.DataFrame) -> None:
    known = images.dropna(subset=["mean_intensity"])
    groups = {str(name): group["mean_intensity"].to_numpy() for name, group in known.groupby("modality_guess")}
    axes.hist(list(groups.values()), bins=40, stacked=True, label=list(groups))
    axes.set(title="Mean intensity, by guessed modality", xlabel="mean of the stored values", ylabel="images")
    if groups:
        axes.legend()
