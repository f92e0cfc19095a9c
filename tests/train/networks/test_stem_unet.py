"""The network of the recipe `native`: its size, and the resolutions at which it works."""

from __future__ import annotations

import keras

from nuclei_train.batches.targets import TARGETS
from nuclei_train.networks.stem_unet import LEVELS, MULTIPLE_OF_PX, build_stem_unet
from nuclei_train.recipes.native import Native


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
