"""Figures of the inputs and outputs of a recipe's network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

EXAMPLES_SHOWN = 4


def draw_examples(
    path: Path,
    title: str,
    ids: Sequence[str],
    images: NDArray[np.float32],
    foreground: NDArray[np.bool_] | None,
    probability: NDArray[np.float32] | None,
    *,
    seed: int,
) -> None:
    """Draw a seeded random choice of images as the network receives them, one row each.

    Parameters
    ----------
    images : (N, H, W, 3) ndarray of float32 in [0, 1]
    foreground : (N, H, W, 1) ndarray of bool, optional
    probability : (N, H, W, 1) ndarray of float32 in [0, 1], optional
    """
    chosen = np.sort(np.random.default_rng(seed).permutation(len(images))[:EXAMPLES_SHOWN])
    columns: list[tuple[str, NDArray[np.generic]]] = [("image", images)]
    if foreground is not None:
        columns.append(("truth", foreground))
    if probability is not None:
        columns.append(("prediction", probability))
    figure = Figure(figsize=(2.6 * len(columns), 2.7 * len(chosen) + 0.4), layout="constrained")
    figure.suptitle(title)
    grid = figure.subplots(len(chosen), len(columns), squeeze=False)
    for row, index in zip(grid, chosen, strict=True):
        for axes, (name, stack) in zip(row, columns, strict=True):
            _show(axes, stack[index])
            axes.set_title(f"{name} {ids[index][:12]}" if name == "image" else name, fontsize=9)
    figure.savefig(path, dpi=110)


def draw_maps(path: Path, title: str, images: NDArray[np.float32], maps: NDArray[np.float32]) -> None:
    """Draw crops with their maps below: distance in red, border in green, foreground in blue.

    Parameters
    ----------
    images : (N, H, W, 3) ndarray of float32 in [0, 1]
    maps : (N, H, W, 3 or more) ndarray of float32 in [0, 1]
        `nuclei_runtime.steps.step.MAPS`; any further channels are ignored.
    """
    columns = min(len(images), 2 * EXAMPLES_SHOWN)
    figure = Figure(figsize=(1.8 * columns, 4), layout="constrained")
    figure.suptitle(f"{title}: distance red, touching borders green, foreground blue")
    for row, stack in zip(figure.subplots(2, columns, squeeze=False), (images, maps[..., [1, 2, 0]]), strict=True):
        for axes, picture in zip(row, stack, strict=False):
            _show(axes, picture)
    figure.savefig(path, dpi=110)


def _show(axes: Axes, picture: NDArray[np.generic]) -> None:
    axes.imshow(picture.squeeze(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_axis_off()
