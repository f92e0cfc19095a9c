"""Equalising the ranges of a network's channels leaves its output unchanged and makes it more accurate in 8 bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from nuclei_export.equalise import equalise
from nuclei_export.sub_pixel import replace_transposed

IMAGES = np.random.default_rng(1).random((12, 16, 24, 3), np.float32)
CHANNELS = 6


def network(scales: NDArray[np.float32]) -> Any:
    """A U-Net of two levels. Its first convolution is multiplied by `scales`, channel by channel; the next undo it."""
    rng = np.random.default_rng(0)

    def kernel(name: str, *shape: int) -> Any:
        return rng.normal(0, 0.3, shape).astype(np.float32), name

    first, first_name = kernel("first", CHANNELS, 3, 3, 3)
    down, down_name = kernel("down", 8, CHANNELS, 3, 3)
    up, up_name = kernel("up", 8, 4, 2, 2)  # of a transposed convolution: inputs, outputs
    last, last_name = kernel("last", 2, 4 + CHANNELS, 3, 3)
    undone = scales[:, np.newaxis, np.newaxis]
    weights = {
        first_name: first * scales[:, np.newaxis, np.newaxis, np.newaxis],
        "bias": 0.1 * scales,
        down_name: down / undone,
        up_name: up,
        last_name: np.concatenate([last[:, :4], last[:, 4:] / undone], axis=1),
        "last bias": np.array([0.1, -0.2]),
    }
    pads = {"pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Transpose", ["image"], ["x"], "in", perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["x", "first", "bias"], ["a"], "first/Conv", **pads),
        helper.make_node("Relu", ["a"], ["skip"], "first/Relu"),
        helper.make_node("MaxPool", ["skip"], ["small"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["small", "down"], ["b"], "down/Conv", **pads),
        helper.make_node("Relu", ["b"], ["deep"], "down/Relu"),
        helper.make_node("ConvTranspose", ["deep", "up"], ["wide"], "up/ConvTranspose", strides=[2, 2]),
        helper.make_node("Concat", ["wide", "skip"], ["both"], "both", axis=1),
        helper.make_node("Conv", ["both", "last", "last bias"], ["logits"], "last/Conv", **pads),
        helper.make_node("Sigmoid", ["logits"], ["map"], "sigmoid"),
        helper.make_node("Transpose", ["map"], ["maps"], "out", perm=[0, 2, 3, 1]),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", "h", "w", 3])],
        [helper.make_tensor_value_info("maps", TensorProto.FLOAT, ["n", "h", "w", 2])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(proto, full_check=True)
    return replace_transposed(proto)


def run(proto: Any, *names: str) -> list[NDArray[np.float32]]:
    shown = onnx.ModelProto()
    shown.CopyFrom(proto)
    shown.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names if name != "maps")
    session = onnxruntime.InferenceSession(shown.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(list(names), {"image": IMAGES}))


SCALES = {
    "alike": np.ones(CHANNELS, np.float32),
    "far apart": np.geomspace(1, 200, CHANNELS).astype(np.float32),
    "one is silent": np.array([1, 1, 0.5, 2, 3, 1e-12], np.float32),
}


@pytest.mark.parametrize("scales", SCALES.values(), ids=SCALES)
def test_it_computes_the_same_and_its_channels_have_one_range(scales: NDArray[np.float32]) -> None:
    proto = network(scales)
    before = proto.SerializeToString()
    changed = equalise(proto, IMAGES)
    assert proto.SerializeToString() == before
    (expected,) = run(proto, "maps")
    found, skip, deep, wide = run(changed, "maps", "skip", "deep", "wide")
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert expected.std() > 0.05
    for tensor in (skip, deep, wide):
        largest = np.abs(tensor).max(axis=(0, 2, 3))
        loud = largest > 0.01 * largest.max()  # the noise of a nearly silent channel stays small
        np.testing.assert_allclose(largest[loud], largest.max(), rtol=1e-4)
        assert loud.sum() >= len(largest) - 1


def test_what_a_sigmoid_reads_stays_as_it_is() -> None:
    proto = network(SCALES["alike"])
    (logits,), (expected,) = run(equalise(proto, IMAGES), "logits"), run(proto, "logits")
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    assert np.abs(expected).max(axis=(0, 2, 3))[0] != pytest.approx(np.abs(expected).max(axis=(0, 2, 3))[1])


def test_eight_bits_of_one_scale_lose_less() -> None:
    """Values are rounded to 255 steps of the tensor's range, as in int8."""
    proto = network(SCALES["far apart"])
    errors = []
    for graph in (proto, equalise(proto, IMAGES)):
        (skip,) = run(graph, "skip")
        step = skip.max() / 255
        rounded = np.rint(skip / step) * step
        of_channel = np.abs(rounded - skip).mean(axis=(0, 2, 3)) / np.abs(skip).mean(axis=(0, 2, 3))
        errors.append(of_channel.max())
    assert errors[1] < errors[0] / 10
