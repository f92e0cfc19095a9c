"""Every network that a recipe can train: its input and output, its receptive field, and its compute."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest

from nuclei_train.batches.targets import TARGETS
from nuclei_train.networks.architectures import ARCHITECTURES
from nuclei_train.networks.flops import flops_per_pixel
from nuclei_train.recipes.native import Native

NAMES = list(ARCHITECTURES)


def test_the_default_is_one_of_them() -> None:
    assert Native().architecture == "stem_unet"
    assert Native().network is ARCHITECTURES["stem_unet"]


@pytest.mark.parametrize("name", NAMES)
def test_it_is_one_of_the_registered_names_and_ends_in_its_maps(name: str) -> None:
    network = ARCHITECTURES[name].build(64, 64, 3, filters=2, maps=5)
    assert network.name == name
    assert [tensor.name for tensor in network.inputs] == ["image"]
    assert network.output_names == ["maps"]
    assert network.output_shape == (None, 64, 64, 5)
    head = network.layers[-1]
    assert head.activation is keras.activations.linear
    assert [weight.path for weight in network.weights][-2:] == ["maps/kernel", "maps/bias"]


@pytest.mark.parametrize("name", NAMES)
def test_it_takes_any_multiple(name: str) -> None:
    keras.utils.set_random_seed(42)  # with some weights, a sigmoid in float32 reaches 1
    network = ARCHITECTURES[name].build(None, None, 3, filters=2, maps=3, activation="sigmoid")
    for size in ((16, 16), (32, 80)):
        images = np.random.default_rng(0).random((2, *size, 3), dtype=np.float32)
        maps = np.asarray(network(images, training=False))  # called directly, so that nothing has to be compiled
        assert maps.shape == (2, *size, 3)
        assert maps.dtype == np.float32
        assert 0 < maps.min() < maps.max() < 1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("beyond", [0.5, 1.5])
def test_it_takes_nothing_between(name: str, beyond: float) -> None:
    architecture = ARCHITECTURES[name]
    size = int((1 + beyond) * architecture.multiple_of_px)
    with pytest.raises(ValueError, match="oncatenate"):
        architecture.build(size, size, 3, filters=2, maps=1)


@pytest.mark.parametrize(("name", "expected"), [("unet", 94), ("stem_unet", 92), ("residual_unet", 122)])
def test_its_halo_is_what_it_sees_beyond_a_cut(name: str, expected: int) -> None:
    """All weights are made positive: the effect of a bright pixel in the dark then shows wherever it is seen.

    The pixel is put at each position relative to the strides: pooling and transposed convolutions are asymmetric. Tiles
    are cut at multiples of the strides, so what counts is how far from the nearest cut its effect reaches.
    """
    architecture, size, middle = ARCHITECTURES[name], 288, 144
    step = architecture.multiple_of_px
    network = architecture.build(size, size, 3, filters=1, maps=1)
    network.set_weights([np.abs(weight) for weight in network.get_weights()])
    images = np.zeros((step, size, size, 3), np.float32)
    places = middle - step // 2 + np.arange(step)
    for image, place in zip(images, places, strict=True):
        image[place, place] = 1e6
    seen = network.predict_on_batch(images)[..., 0] > 0  # nowhere, if everything is dark
    reach = 0
    for one, place in zip(seen, places, strict=True):
        before = place // step * step
        for axis in (0, 1):
            (reached,) = np.nonzero(one.any(axis=axis))
            assert 0 < reached[0] < reached[-1] < size - 1  # the image is large enough to show it
            reach = max(reach, before - reached[0], reached[-1] + 1 - (before + step))
    assert reach == expected
    assert architecture.halo_px - step < reach <= architecture.halo_px
    assert architecture.halo_px % step == 0


@pytest.mark.parametrize(
    ("name", "filters", "kflop"), [("unet", 16, 92.7), ("stem_unet", 24, 40.1), ("residual_unet", 24, 41.0)]
)
def test_it_costs_what_is_said_of_it(name: str, filters: int, kflop: float) -> None:
    network = ARCHITECTURES[name].build(192, 192, 3, filters=filters, maps=len(TARGETS))
    assert flops_per_pixel(network) / 1e3 == pytest.approx(kflop, abs=0.05)
    assert network.count_params() < 2_000_000


def test_operations_are_counted_by_hand() -> None:
    image = keras.Input((32, 64, 3))
    tensor = keras.layers.Conv2D(8, 4, strides=2, padding="same")(image)
    tensor = keras.layers.DepthwiseConv2D(3, padding="same")(keras.layers.ReLU()(tensor))
    network = keras.Model(image, keras.layers.Conv2DTranspose(5, 2, strides=2)(tensor))
    products = [4 * 4 * 3 * 8 / 4, 3 * 3 * 8 / 4, 2 * 2 * 8 * 5 / 4]  # a pixel of the image
    assert flops_per_pixel(network) == pytest.approx(2 * math.fsum(products))


def test_the_alternative_works_below_half_resolution() -> None:
    """Except for the stem and one convolution, it works at a quarter of the resolution or less, in depthwise blocks."""
    network = ARCHITECTURES["residual_unet"].build(64, 64, 3, filters=4, maps=1)
    weighty = [layer for layer in network.layers if layer.weights and "normalisation" not in layer.name]
    half = [layer.name for layer in weighty if layer.output.shape[1] == 32]
    assert half == ["stem", "expansion_0_transposed", "expansion_0_convolution"]
    depthwise = [layer for layer in weighty if isinstance(layer, keras.layers.DepthwiseConv2D)]
    sums = [layer for layer in network.layers if isinstance(layer, keras.layers.Add)]
    assert len(depthwise) == len(sums) == 13
    for layer in sums:
        passed, added = layer.input
        assert passed.shape == added.shape == layer.output.shape
