"""Test-time augmentation: every orientation once, each answer turned back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nuclei_runtime import Segmenter
from nuclei_runtime.preprocess import preprocess
from nuclei_runtime.synthetic import fluorescence_field
from nuclei_runtime.tta import ORIENTATIONS, average_orientations


def test_every_orientation_is_seen_once() -> None:
    picture = np.arange(6, dtype=np.float32).reshape(1, 2, 3, 1)
    seen = []

    def run(batch: np.ndarray) -> np.ndarray:
        seen.append(batch.copy())
        return batch

    average_orientations(run)(picture)
    assert len({(one.shape, one.tobytes()) for one in seen}) == len(seen) == len(ORIENTATIONS) == 8
    assert {one.shape for one in seen} == {(1, 2, 3, 1), (1, 3, 2, 1)}


@pytest.mark.parametrize("shape", [(1, 4, 4, 3), (2, 5, 8, 3)])
def test_each_answer_is_turned_back(shape: tuple[int, ...]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, shape).astype(np.float32)
    np.testing.assert_array_equal(average_orientations(lambda batch: batch)(picture), picture)


def test_an_answer_that_depends_on_the_orientation_is_averaged() -> None:
    def rows_from_the_top(batch: np.ndarray) -> np.ndarray:
        n, height, width, _ = batch.shape
        return np.broadcast_to(np.arange(height, dtype=np.float32)[:, np.newaxis, np.newaxis], (n, height, width, 1))

    answer = average_orientations(rows_from_the_top)(np.zeros((1, 4, 4, 3), np.float32))
    np.testing.assert_array_equal(answer, np.full((1, 4, 4, 1), 1.5, np.float32))


def test_a_segmenter_averages_on_demand(tiled_model: Path) -> None:
    image = fluorescence_field(3, height=90, width=70, n_nuclei=6)[0]
    plain, averaged = Segmenter(tiled_model), Segmenter(tiled_model, tta=True)
    assert (plain.tta, averaged.tta) == (False, True)
    runs = []
    for segmenter in (plain, averaged):
        (maps,) = segmenter.predict([image])
        runs.append(maps)
        np.testing.assert_array_equal(segmenter.segment(image).labels, segmenter.find_instances(maps).labels)
    # The model is symmetric but for the order in which it adds up.
    np.testing.assert_allclose(runs[1], runs[0], atol=1e-5)
    batch = preprocess(image, plain.card.preprocessing)[np.newaxis]
    np.testing.assert_array_equal(averaged.run(batch), average_orientations(plain.run)(batch))
