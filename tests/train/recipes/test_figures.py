"""The figures in a run folder, drawn from known numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nuclei_train.recipes.figures import EXAMPLES_SHOWN, draw_examples, draw_maps


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def stack(n: int, value: float, channels: int) -> np.ndarray:
    return np.full((n, 16, 16, channels), value, np.float32)


@pytest.mark.parametrize(("n", "rows"), [(1, 1), (3, 3), (9, EXAMPLES_SHOWN)])
def test_samples_have_a_row_each_and_a_column_for_what_there_is(tmp_path: Path, n: int, rows: int) -> None:
    ids = [f"picture_{index}" for index in range(n)]
    images, truth, probability = stack(n, 0.4, 3), stack(n, 1, 1) > 0, stack(n, 0.8, 1)
    draw_examples(tmp_path / "three.png", "all", ids, images, truth, probability, seed=1)
    draw_examples(tmp_path / "two.png", "no truth", ids, images, None, probability, seed=1)
    three, two = pixels(tmp_path / "three.png"), pixels(tmp_path / "two.png")
    assert three.shape[1] > two.shape[1]
    assert three.shape[0] == two.shape[0] == pytest.approx((2.7 * rows + 0.4) * 110, abs=1)
    for picture in (three, two):
        grey, light = (picture == 102).all(axis=-1).sum(), (picture == 204).all(axis=-1).sum()
        assert grey > 10_000 * rows  # 0.4 of 255, the images
        assert light == pytest.approx(grey, rel=0.1)  # 0.8 of 255, as many predictions


def test_the_choice_of_samples_is_the_seeds(tmp_path: Path) -> None:
    images = np.linspace(0, 1, 20, dtype=np.float32)[:, None, None, None] * stack(20, 1, 3)
    for name, seed in {"one": 1, "again": 1, "other": 2}.items():
        draw_examples(tmp_path / f"{name}.png", "title", ["x"] * 20, images, None, None, seed=seed)
    np.testing.assert_array_equal(pixels(tmp_path / "one.png"), pixels(tmp_path / "again.png"))
    assert (pixels(tmp_path / "one.png") != pixels(tmp_path / "other.png")).any()


@pytest.mark.parametrize(("n", "columns"), [(1, 1), (5, 5), (20, 2 * EXAMPLES_SHOWN)])
def test_maps_lie_below_their_crops_in_the_colours_that_the_title_names(tmp_path: Path, n: int, columns: int) -> None:
    maps = np.zeros((n, 16, 16, 6), np.float32)
    maps[..., 0], maps[..., 1], maps[..., 2] = 0.2, 0.6, 1.0  # foreground, distance, border
    maps[..., 3:5] = -3  # offsets are not shown
    draw_maps(tmp_path / "maps.png", "crops", stack(n, 0.4, 3), maps)
    picture = pixels(tmp_path / "maps.png")
    assert picture.shape[1] == pytest.approx(1.8 * columns * 110, abs=1)
    grey = np.argwhere((picture == 102).all(axis=-1))
    mixed = np.argwhere((picture == [153, 255, 51]).all(axis=-1))
    assert len(grey) > 5_000 * columns
    assert len(mixed) == pytest.approx(len(grey), rel=0.1)
    assert grey[:, 0].max() < mixed[:, 0].min()
