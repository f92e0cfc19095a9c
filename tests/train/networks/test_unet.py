"""The baseline's U-Net has the architecture that its docstring describes."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from nuclei_train.networks.unet import build_unet
from nuclei_train.recipes.baseline import FILTERS


def build(height: int, width: int) -> keras.Model:
    """Build it as the recipe `baseline` does."""
    return build_unet(height, width, 3, filters=FILTERS, maps=1, activation="sigmoid")


@pytest.fixture(scope="module")
def unet() -> keras.Model:
    return build(128, 128)


def of_kind(model: keras.Model, kind: type) -> list[keras.Layer]:
    return [layer for layer in model.layers if isinstance(layer, kind)]


def test_size_and_shapes(unet: keras.Model) -> None:
    assert unet.count_params() == 1_941_105
    assert unet.input_shape == (None, 128, 128, 3)
    assert unet.output_shape == (None, 128, 128, 1)
    assert [tensor.name for tensor in unet.inputs] == ["image"]
    assert unet.output_names == ["foreground"]
    assert build(32, 48).output_shape == (None, 32, 48, 1)


def test_contraction_and_expansion(unet: keras.Model) -> None:
    three = [layer for layer in of_kind(unet, keras.layers.Conv2D) if layer.kernel_size == (3, 3)]
    assert [layer.filters for layer in three] == [n for n in (16, 32, 64, 128, 256, 128, 64, 32, 16) for _ in range(2)]
    assert all(layer.activation is keras.activations.relu for layer in three)
    assert all(isinstance(layer.kernel_initializer, keras.initializers.HeNormal) for layer in three)
    assert [layer.filters for layer in of_kind(unet, keras.layers.Conv2DTranspose)] == [128, 64, 32, 16]
    assert len(of_kind(unet, keras.layers.Concatenate)) == len(of_kind(unet, keras.layers.MaxPooling2D)) == 4
    rates = [layer.rate for layer in of_kind(unet, keras.layers.Dropout)]
    assert rates == [0.1, 0.1, 0.2, 0.2, 0.3, 0.2, 0.2, 0.1, 0.1]


def test_head(unet: keras.Model) -> None:
    head = unet.layers[-1]
    assert head.kernel_size == (1, 1)
    assert head.activation is keras.activations.sigmoid


def test_each_level_meets_its_own_contraction(unet: keras.Model) -> None:
    for level in range(4):
        up, across = unet.get_layer(f"expansion_{level}_concatenation").input
        assert up is unet.get_layer(f"expansion_{level}_transposed").output
        assert across is unet.get_layer(f"contraction_{level}_convolution_2").output
        transposed = unet.get_layer(f"expansion_{level}_transposed")
        assert (transposed.kernel_size, transposed.strides) == ((2, 2), (2, 2))


def test_it_gives_probabilities_and_one_seed_gives_one_network() -> None:
    batch = np.random.default_rng(0).random((2, 32, 32, 3), dtype=np.float32)
    outputs = []
    for seed in (42, 42, 43):
        keras.utils.set_random_seed(seed)
        outputs.append(build(32, 32).predict(batch, verbose=0))
    assert outputs[0].shape == (2, 32, 32, 1)
    assert outputs[0].min() > 0
    assert outputs[0].max() < 1
    np.testing.assert_array_equal(outputs[0], outputs[1])
    assert not np.array_equal(outputs[0], outputs[2])
