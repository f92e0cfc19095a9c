"""A wider network that begins with the weights of a narrower one."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from nuclei_train.networks.architectures import ARCHITECTURES
from nuclei_train.networks.widening import widen


def build(name: str, filters: int, maps: int = 5) -> keras.Model:
    return ARCHITECTURES[name].build(32, 32, 3, filters=filters, maps=maps)


@pytest.fixture(scope="module")
def batch() -> np.ndarray:
    return np.random.default_rng(0).random((2, 32, 32, 3), dtype=np.float32)


@pytest.mark.parametrize("filters", [4, 5, 8])
@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_it_computes_the_same(name: str, filters: int, batch: np.ndarray) -> None:
    keras.utils.set_random_seed(42)
    narrow, wide = build(name, 4), build(name, filters)
    rng = np.random.default_rng(1)
    for weight in narrow.weights:  # a new network's normalisations and biases would not show a mistake
        if len(weight.shape) == 1:
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
    expected = np.asarray(narrow(batch, training=False))
    before = np.asarray(wide(batch, training=False))
    weights = widen(narrow, wide)
    assert weights is not None
    wide.set_weights(weights)
    np.testing.assert_allclose(np.asarray(wide(batch, training=False)), expected, atol=1e-4 * np.abs(expected).max())
    assert not np.allclose(before, expected)


def test_all_of_it_learns(batch: np.ndarray) -> None:
    """Two steps: in the first, the additional channels weigh nothing yet, so nothing flows back through them."""
    narrow, wide = build("stem_unet", 4), build("stem_unet", 6)
    weights = widen(narrow, wide)
    assert weights is not None
    wide.set_weights(weights)
    wide.compile(optimizer=keras.optimizers.Adam(0.01), loss="mse")
    for _ in range(2):
        wide.train_on_batch(batch, np.ones((2, 32, 32, 5), np.float32))
    for before, after in zip(weights, wide.weights, strict=True):
        if len(after.shape) > 1:
            changed = (before != np.asarray(after)).any(axis=(0, 1))  # the last channels are additional ones
            assert changed[-1].any(), after.path
            assert changed[:, -1].any(), after.path


@pytest.mark.parametrize(
    ("name", "filters", "maps"),
    [("stem_unet", 3, 5), ("unet", 8, 5), ("stem_unet", 8, 6)],
    ids=["narrower", "another", "other maps"],
)
def test_another_network_is_refused(name: str, filters: int, maps: int) -> None:
    assert widen(build("stem_unet", 4), build(name, filters, maps)) is None
