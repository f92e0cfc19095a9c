"""ONNX Runtime computes what Keras computes, and a difference is noticed."""

from __future__ import annotations

import shutil
from pathlib import Path

import keras
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from nuclei_export.convert import load_checkpoint
from nuclei_export.parity import BATCH_SIZES, compare
from nuclei_runtime.model.session import load_session


@pytest.fixture(scope="module")
def checkpoint(finished_run: Path) -> keras.Model:
    return load_checkpoint(finished_run / "best.keras")


def test_the_trained_weights_give_the_same_on_several_batches(exported: Path, checkpoint: keras.Model) -> None:
    comparisons = compare(checkpoint, load_session(exported))
    assert [(c.batch, c.shape) for c in comparisons] == [
        (batch, (size, 128, 128, 3)) for size in BATCH_SIZES for batch in ("synthetic fields", "noise")
    ]
    assert max(c.difference for c in comparisons) < 1e-5
    fields = [c for c in comparisons if c.batch == "synthetic fields"]
    assert min(c.spread for c in fields) > 0.1  # nuclei and background: a comparison that means something


def test_a_weight_that_was_changed_is_seen(exported: Path, checkpoint: keras.Model, tmp_path: Path) -> None:
    path = tmp_path / "changed.onnx"
    shutil.copy(exported, path)
    model = onnx.load(path)
    (bias,) = (one for one in model.graph.initializer if one.name == "foreground/bias")
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32(0.01), bias.name))
    onnx.save(model, path)
    assert 1e-4 < max(c.difference for c in compare(checkpoint, load_session(path))) < 1e-2


def test_a_nan_probability_is_an_infinite_difference(tiny_model: Path) -> None:
    """Noise is brighter on average than a field, and this network gives NaN only for noise."""
    image = keras.Input((128, 128, 3), name="image")
    mean = keras.ops.mean(image, axis=(1, 2, 3), keepdims=True)
    model = keras.Model(image, keras.ops.sqrt(0.45 - mean) + 0 * image[..., :1])
    comparisons = compare(model, load_session(tiny_model))
    for comparison in comparisons:
        assert np.isinf(comparison.difference) == (comparison.batch == "noise")
    assert max(c.difference for c in comparisons) == np.inf
