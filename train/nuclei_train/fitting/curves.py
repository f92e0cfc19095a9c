"""The learning curves of a training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure


def draw_curves(path: Path, history: Sequence[dict[str, float]], best_epoch: int) -> None:
    """Draw the loss and, if there is one, the accuracy per epoch; the best epoch is marked."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    epochs = [row["epoch"] for row in history]
    metrics = [name for name in ("loss", "accuracy") if name in history[0]]
    for axes, metric in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True):
        axes.plot(epochs, [row[metric] for row in history], "o-", markersize=3, label="train")
        axes.plot(epochs, [row[f"val_{metric}"] for row in history], "o-", markersize=3, label="val")
        axes.axvline(best_epoch, color="grey", linestyle=":", label=f"best val loss (epoch {best_epoch})")
        axes.set(title=metric, xlabel="epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend()
    figure.savefig(path, dpi=120)
