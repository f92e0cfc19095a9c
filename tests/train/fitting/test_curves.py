"""The learning curves of a training, drawn from known numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from nuclei_train.fitting.curves import draw_curves


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def history(*losses: float) -> list[dict[str, float]]:
    return [
        {"epoch": epoch, "loss": loss, "val_loss": loss + 0.1, "accuracy": 1 - loss, "val_accuracy": 0.9 - loss}
        for epoch, loss in enumerate(losses, 1)
    ]


def test_curves_are_drawn_from_one_epoch_on_and_change_with_the_numbers(tmp_path: Path) -> None:
    for name, losses in {"one": [0.5], "falling": [0.5, 0.3, 0.2], "rising": [0.2, 0.3, 0.5]}.items():
        draw_curves(tmp_path / f"{name}.png", history(*losses), best_epoch=1)
    falling, rising = pixels(tmp_path / "falling.png"), pixels(tmp_path / "rising.png")
    assert falling.shape == rising.shape == (480, 1200, 3)
    assert (falling != rising).any()
    assert pixels(tmp_path / "one.png").std() > 10
    for colour in ([31, 119, 180], [255, 127, 14]):  # Matplotlib's first two: train and val
        assert (falling == colour).all(axis=-1).sum() > 100


def test_curves_are_drawn_where_there_is_no_accuracy(tmp_path: Path) -> None:
    rows = [{"epoch": 1, "loss": 0.5, "val_loss": 0.6}, {"epoch": 2, "loss": 0.4, "val_loss": 0.5}]
    draw_curves(tmp_path / "curves.png", rows, best_epoch=2)
    assert pixels(tmp_path / "curves.png").std() > 10
