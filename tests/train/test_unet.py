"""The baseline's U-Net is the one that was asked for."""

from __future__ import annotations

import keras
import pytest

from nuclei_train.unet import build_unet


@pytest.fixture(scope="module")
def unet() -> keras.Model:
    return build_unet(128, 128, 3)


def of_kind(model: keras.Model, kind: type) -> list[keras.Layer]:
    return [layer for layer in model.layers if isinstance(layer, kind)]


def test_size_and_shapes(unet: keras.Model) -> None:
    assert unet.count_params() == 1_941_105
    assert unet.input_shape == (None, 128, 128, 3)
    assert unet.output_shape == (None, 128, 128, 1)
    assert [tensor.name for tensor in unet.inputs] == ["image"]


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
