"""The converted graph: readable names, weights named after their layers, any batch size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from nuclei_export.convert import OPSETS, convert, graph_digest, load_checkpoint
from nuclei_export.errors import RunFolderError


@pytest.fixture(scope="module")
def checkpoint(finished_run: Path) -> Any:
    return load_checkpoint(finished_run / "best.keras")


@pytest.fixture(scope="module")
def graph(exported: Path) -> onnx.GraphProto:
    return onnx.load(exported).graph


def tiny_network(seed: int = 0) -> keras.Model:
    """Return a network with every kind of layer that the baseline has, at one hundredth of its size."""
    keras.utils.set_random_seed(seed)
    image = keras.Input((8, 12, 3), name="image")
    wide = keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="wide")(image)
    narrow = keras.layers.Dropout(0.5, name="drop")(keras.layers.MaxPooling2D(2, name="pool")(wide))
    back = keras.layers.Conv2DTranspose(4, 2, strides=2, padding="same", name="back")(narrow)
    both = keras.layers.Concatenate(name="both")([back, wide])
    return keras.Model(image, keras.layers.Conv2D(1, 1, activation="sigmoid", name="foreground")(both), name="tiny")


def test_the_file_passes_the_full_check(exported: Path) -> None:
    model = onnx.load(exported)
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", OPSETS[-1])]


def test_any_batch_of_the_networks_size_goes_in(exported: Path) -> None:
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    (value,), (result,) = session.get_inputs(), session.get_outputs()
    assert (value.name, value.type, value.shape) == ("image", "tensor(float)", ["batch", 128, 128, 3])
    assert (result.name, result.type, result.shape) == ("foreground", "tensor(float)", ["batch", 128, 128, 1])
    for size in (1, 3):
        (output,) = session.run(None, {"image": np.zeros((size, 128, 128, 3), np.float32)})
        assert output.shape == (size, 128, 128, 1)


def test_every_name_is_a_layers(graph: onnx.GraphProto, checkpoint: Any) -> None:
    layers = {layer.name for layer in checkpoint.layers}
    names = [node.name for node in graph.node] + [one.name for one in graph.initializer]
    tensors = {name for node in graph.node for name in (*node.input, *node.output)}
    assert len(names) == len(set(names))
    for name in {*names, *tensors} - {"image", "foreground"}:
        assert name.partition("/")[0] in layers, name
    for piece in ("unk__", "ReadVariableOp", ":", "StatefulPartitionedCall", "const_fold"):
        assert [name for name in {*names, *tensors} if piece in name] == []
    assert graph.name == "unet"
    assert list(graph.value_info) == []  # no old names left


def test_every_layers_weights_are_found_under_its_name(graph: onnx.GraphProto, checkpoint: Any) -> None:
    stored = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    convolutions = [layer for layer in checkpoint.layers if layer.weights]
    assert len(convolutions) == 23
    for layer in convolutions:
        kernel, bias = layer.get_weights()  # rows, columns, in, out; transposed: rows, columns, out, in
        np.testing.assert_array_equal(stored.pop(f"{layer.name}/kernel"), kernel.transpose(3, 2, 0, 1))
        np.testing.assert_array_equal(stored.pop(f"{layer.name}/bias"), bias)
    assert all(one.dtype == np.int64 and one.size < 8 for one in stored.values()), list(stored)  # a shape, no weight


@pytest.mark.parametrize("opset", OPSETS)
def test_a_network_of_another_shape_computes_the_same(opset: int) -> None:
    model = tiny_network()
    proto = convert(model, opset)
    assert proto.opset_import[0].version == opset
    batch = np.random.default_rng(0).random((3, 8, 12, 3), dtype=np.float32)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    (output,) = session.run(["foreground"], {"image": batch})
    np.testing.assert_allclose(output, model.predict(batch, verbose=0), atol=1e-6)


def test_one_network_has_one_digest_whatever_its_metadata() -> None:
    model = tiny_network()
    proto, again = convert(model, 18), convert(model, 18)
    assert proto.SerializeToString(deterministic=True) == again.SerializeToString(deterministic=True)
    onnx.helper.set_model_props(again, {"author": "somebody"})
    assert graph_digest(proto) == graph_digest(again)
    assert len(again.metadata_props) == 1  # leaving it out changes nothing
    assert graph_digest(convert(tiny_network(seed=1), 18)) != graph_digest(proto)
    assert graph_digest(convert(model, 17)) != graph_digest(proto)


def test_layers_whose_names_begin_alike_are_distinguished() -> None:
    image = keras.Input((4, 4, 3), name="image")
    tensor = keras.layers.Conv2D(2, 1, name="level_1")(image)
    tensor = keras.layers.Conv2D(2, 1, name="level_10")(tensor)
    proto = convert(keras.Model(image, keras.layers.Conv2D(1, 1, name="level")(tensor)), 18)
    kernels = {one.name: tuple(one.dims) for one in proto.graph.initializer if one.name.endswith("/kernel")}
    assert kernels == {"level_1/kernel": (2, 3, 1, 1), "level_10/kernel": (2, 2, 1, 1), "level/kernel": (1, 2, 1, 1)}


@pytest.mark.parametrize("kind", ["missing", "empty", "text", "truncated", "overwritten"])
def test_a_damaged_checkpoint_is_a_sentence(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "best.keras"
    tiny_network().save(path)
    content = path.read_bytes()
    middle = len(content) // 2
    changed = {
        "empty": b"",
        "text": b"not a checkpoint",
        "truncated": content[:middle],
        "overwritten": content[:middle] + bytes(64) + content[middle + 64 :],
    }
    path.unlink()
    if kind != "missing":
        path.write_bytes(changed[kind])
    with pytest.raises(RunFolderError, match=r"best\.keras: not a checkpoint that Keras can read"):
        load_checkpoint(path)
