"""Nodes that should not be in a graph are named, and its operations are counted as by hand."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import onnx
import pytest
import tf2onnx
from onnx import TensorProto, helper, numpy_helper

from nuclei_export.convert import convert
from nuclei_export.lint import Finding, flops_per_pixel, lint


def graph_of(nodes: list[onnx.NodeProto], **constants: np.ndarray) -> onnx.ModelProto:
    """Return a model from image (batch, 8, 8, 3) to foreground (batch, 8, 8, 1)."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 8, 8, 3])],
        [helper.make_tensor_value_info("foreground", TensorProto.FLOAT, ["batch", 8, 8, 1])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def node(kind: str, inputs: str, outputs: str, domain: str = "", **attributes: object) -> onnx.NodeProto:
    """Return a node that is named after its output."""
    return helper.make_node(kind, inputs.split(), outputs.split(), f"{outputs}/{kind}", domain=domain, **attributes)


TO_CHANNELS = node("Transpose", "image", "channels_first", perm=[0, 3, 1, 2])
FROM_CHANNELS = node("Transpose", "one", "foreground", perm=[0, 2, 3, 1])
TO_ONE = node("Conv", "channels_first kernel", "one")
KERNEL = np.zeros((1, 3, 1, 1), np.float32)


def named(findings: list[Finding]) -> dict[str, tuple[str, ...]]:
    return {finding.what.partition(":")[0]: finding.nodes for finding in findings}


def test_layout_changes_at_the_ends_are_not_a_finding() -> None:
    assert lint(graph_of([TO_CHANNELS, TO_ONE, FROM_CHANNELS], kernel=KERNEL)) == []


@pytest.mark.parametrize(
    ("nodes", "what"),
    [
        ([node("Tile", "channels_first once", "x")], "Tile"),
        ([node("Transpose", "channels_first", "x", perm=[0, 2, 3, 1])], "Transpose inside the graph"),
        ([node("Gelu", "channels_first", "x", domain="com.microsoft")], "operators outside the ONNX standard"),
        ([node("Shape", "channels_first", "x"), node("Gather", "x zero", "y")], "shape arithmetic"),
        ([node("Slice", "once zero zero", "x"), node("Cast", "x", "y", to=TensorProto.INT32)], "shape arithmetic"),
    ],
)
def test_a_node_that_should_not_be_there_is_named(nodes: list[onnx.NodeProto], what: str) -> None:
    proto = graph_of(
        [TO_CHANNELS, *nodes, TO_ONE, FROM_CHANNELS],
        kernel=KERNEL,
        once=np.array([1, 1, 1, 1], np.int64),
        zero=np.array([0], np.int64),
    )
    (finding,) = lint(proto)
    assert finding.what.partition(":")[0] == what
    assert finding.nodes == tuple(one.name for one in nodes)


def test_each_kind_is_a_finding_of_its_own() -> None:
    nodes = [node("Tile", "channels_first once", "x"), node("Tile", "x once", "y"), node("Shape", "y", "z")]
    proto = graph_of([TO_CHANNELS, *nodes, TO_ONE, FROM_CHANNELS], kernel=KERNEL, once=np.ones(4, np.int64))
    assert named(lint(proto)) == {"Tile": ("x/Tile", "y/Tile"), "shape arithmetic": ("z/Shape",)}


def test_keras_nearest_upsampling_is_found() -> None:
    """It becomes Tile and Transposes, not Resize."""
    image = keras.Input((16, 16, 3), name="image")
    tensor = keras.layers.Conv2D(4, 3, strides=2, padding="same", name="down")(image)
    tensor = keras.layers.UpSampling2D(2, interpolation="nearest", name="up")(tensor)
    tensor = keras.layers.Conv2D(1, 1, activation="sigmoid", name="foreground")(tensor)
    found = named(lint(convert(keras.Model(image, tensor), 18)))
    assert found["Tile"]
    assert all(name.startswith("up/") for name in found["Tile"])


def test_a_size_computed_at_every_run_is_found() -> None:
    """A transposed convolution for any size computes that size in every run, unless it is converted at one size."""
    image = keras.Input((None, None, 3), name="image")
    model = keras.Model(image, keras.layers.Conv2DTranspose(1, 2, strides=2, name="foreground")(image))
    computed, _ = tf2onnx.convert.from_keras(model, opset=18)
    assert len(named(lint(computed))["shape arithmetic"]) > 10
    proto = convert(model, 18)
    assert lint(proto) == []
    dims = proto.graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in dims] == ["batch", "height", "width", 3]


def test_nothing_is_found_in_the_exported_model(exported: Path) -> None:
    assert lint(onnx.load(exported)) == []


def test_the_work_of_a_small_graph_is_counted_as_by_hand() -> None:
    """Two operations per multiply-add, over the 8 x 8 pixels of the image."""
    nodes = [
        TO_CHANNELS,
        node("Conv", "channels_first wide", "halved", strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Conv", "halved grouped", "same", group=2, pads=[1, 1, 1, 1]),
        node("ConvTranspose", "same back", "one", strides=[2, 2]),
        FROM_CHANNELS,
    ]
    proto = graph_of(
        nodes,
        wide=np.zeros((4, 3, 3, 3), np.float32),
        grouped=np.zeros((4, 2, 3, 3), np.float32),
        back=np.zeros((4, 1, 2, 2), np.float32),
    )
    onnx.checker.check_model(proto, full_check=True)
    halved = 16 * 4 * (3 * 9)  # 4 x 4 pixels, 4 channels, each from 3 channels and 3 x 3 pixels
    grouped = 16 * 4 * (2 * 9)  # each from the 2 channels of its group
    back = 64 * 4  # 8 x 8 pixels, each from one pixel's 4 channels
    assert flops_per_pixel(proto) == 2 * (halved + grouped + back) / 64


def test_the_work_of_the_baseline(exported: Path) -> None:
    """By hand, level by level: 3 x 3 convolutions with 16 to 256 filters; height and width are halved at each level."""
    filters = (16, 32, 64, 128, 256)
    total = 0.0
    before = 3
    for level, n in enumerate(filters):
        total += 9 * (before * n + n * n) / 4**level
        before = n
    for level in range(4):
        n = filters[level]
        total += (2 * n) * n / 4**level  # transposed: each pixel from the channels of one pixel
        total += 9 * (2 * n * n + n * n) / 4**level
    total += 16
    assert flops_per_pixel(onnx.load(exported)) == pytest.approx(2 * total)
    assert 92_000 < 2 * total < 93_000
