"""The network of the recipe `native`: its size, what it takes, and how far it sees."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from nuclei_train.native import Native
from nuclei_train.stem_unet import HALO_PX, LEVELS, MULTIPLE_OF_PX, build_stem_unet
from nuclei_train.targets import TARGETS


def test_it_is_small() -> None:
    network = build_stem_unet(192, 192, 3, filters=Native().filters, maps=len(TARGETS))
    assert network.count_params() < 2_000_000
    assert network.input_shape == (None, 192, 192, 3)
    assert network.output_shape == (None, 192, 192, len(TARGETS))
    assert [tensor.name for tensor in network.inputs] == ["image"]
    assert network.layers[-1].name == "maps"
    assert network.layers[-1].activation is keras.activations.linear


def test_little_of_it_works_at_full_resolution() -> None:
    network = build_stem_unet(64, 64, 3, filters=4, maps=1)
    full = [layer.name for layer in network.layers if layer.output.shape[1] == 64]
    assert full == ["image", "maps"]
    assert min(layer.output.shape[1] for layer in network.layers) == 64 // MULTIPLE_OF_PX
    assert MULTIPLE_OF_PX == 2**LEVELS


@pytest.mark.parametrize("size", [(16, 16), (32, 80), (112, 48)])
def test_it_takes_any_multiple(size: tuple[int, int]) -> None:
    network = build_stem_unet(None, None, 3, filters=2, maps=3, activation="sigmoid")
    maps = network.predict_on_batch(np.random.default_rng(0).random((2, *size, 3), dtype=np.float32))
    assert maps.shape == (2, *size, 3)
    assert maps.dtype == np.float32
    assert 0 < maps.min() < maps.max() < 1


@pytest.mark.parametrize("size", [24, 40])
def test_it_takes_nothing_between(size: int) -> None:
    with pytest.raises(ValueError, match="oncatenate"):
        build_stem_unet(size, size, 3, filters=2, maps=1)


def test_its_halo_is_what_it_sees() -> None:
    """All weights are made positive: a bright pixel in the dark then shows wherever it is seen at all.

    The pixel stands at each place relative to the strides, since pooling and transposed convolution are lopsided.
    """
    size, middle = 288, 144
    network = build_stem_unet(size, size, 3, filters=1, maps=1)
    network.set_weights([np.abs(weight) for weight in network.get_weights()])
    assert not network.predict_on_batch(np.zeros((1, size, size, 3), np.float32)).any()
    images = np.zeros((MULTIPLE_OF_PX, size, size, 3), np.float32)
    places = middle + np.arange(MULTIPLE_OF_PX)
    for image, place in zip(images, places, strict=True):
        image[place, place] = 1e6
    seen = network.predict_on_batch(images)[..., 0] > 0
    reach = 0
    for one, place in zip(seen, places, strict=True):
        for axis in (0, 1):
            (reached,) = np.nonzero(one.any(axis=axis))
            assert 0 < reached[0] < reached[-1] < size - 1  # the image is large enough to tell
            reach = max(reach, place - reached[0], reached[-1] - place)
    assert reach == 102
    assert HALO_PX - MULTIPLE_OF_PX < reach <= HALO_PX
    assert HALO_PX % MULTIPLE_OF_PX == 0
