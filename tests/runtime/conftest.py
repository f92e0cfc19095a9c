"""A network of the real one's shape, made by code."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nuclei_runtime import Segmenter
from nuclei_runtime.model.card import METADATA_KEY, InputSpec, ModelCard
from nuclei_runtime.steps.step import Step
from nuclei_runtime.steps.tiling import Tiling


def write_stem_unet(path: Path, card: ModelCard, filters: int = 24) -> Path:
    """Write what the recipe `native` builds, with random weights: all its kernels, strides and skips, 102 px of reach.

    Its foreground is nonsense; how far it sees, what it computes with and what memory it takes are the real one's.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(7)
    nodes, weights = [], []

    def tensor(name: str, *shape: int, fan_in: int) -> str:
        values = rng.normal(0, np.sqrt(2 / fan_in), shape).astype(np.float32)
        weights.append(numpy_helper.from_array(values, name))
        return name

    def convolution(source: str, name: str, n_in: int, n_out: int, size: int = 3, strides: int = 1) -> str:
        kernel = tensor(f"{name}_kernel", n_out, n_in, size, size, fan_in=n_in * size * size)
        pads = [1, 1, 1, 1]
        nodes.append(helper.make_node("Conv", [source, kernel], [f"{name}_c"], strides=[strides] * 2, pads=pads))
        nodes.append(helper.make_node("Relu", [f"{name}_c"], [name]))
        return name

    def transposed(source: str, name: str, n_in: int, n_out: int) -> str:
        kernel = tensor(f"{name}_kernel", n_in, n_out, 2, 2, fan_in=n_in)
        nodes.append(helper.make_node("ConvTranspose", [source, kernel], [name], strides=[2, 2]))
        return name

    nodes.append(helper.make_node("Transpose", ["image"], ["channels_first"], perm=[0, 3, 1, 2]))
    current, skips = convolution("channels_first", "stem", 3, filters, 4, 2), []
    for level in range(4):
        n = filters * 2**level
        if level:
            nodes.append(helper.make_node("MaxPool", [current], [f"pool_{level}"], kernel_shape=[2, 2], strides=[2, 2]))
            current = convolution(f"pool_{level}", f"down_{level}", n // 2, n)
        current = convolution(current, f"down_{level}_2", n, n)
        skips.append(current)
    for level in (2, 1, 0):
        n = filters * 2**level
        current = transposed(current, f"up_{level}_t", 2 * n, n)
        nodes.append(helper.make_node("Concat", [current, skips[level]], [f"joined_{level}"], axis=1))
        current = convolution(f"joined_{level}", f"up_{level}_1", 2 * n, n)
        current = convolution(current, f"up_{level}_2", n, n)
    logits = transposed(current, "logits", filters, 3)
    nodes.append(helper.make_node("Sigmoid", [logits], ["sigmoids"]))
    nodes.append(helper.make_node("Transpose", ["sigmoids"], ["maps"], perm=[0, 2, 3, 1]))
    size = ["batch", "height", "width", 3]
    graph = helper.make_graph(
        nodes,
        "stem_unet",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, size)],
        [helper.make_tensor_value_info("maps", TensorProto.FLOAT, size)],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    spec = InputSpec("image", None, None, 3, Tiling(512, 112, 16))
    helper.set_model_props(model, {METADATA_KEY: replace(card, name="stem_unet", input=spec).to_json()})
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path


@pytest.fixture(scope="session")
def stem_unet(tmp_path_factory: pytest.TempPathFactory, tiled_model: Path) -> Path:
    """An ONNX file: a network like the real one, with the card of `tiled_model` but for its tiling."""
    return write_stem_unet(tmp_path_factory.mktemp("stem_unet") / "unet.onnx", Segmenter(tiled_model).card)


@pytest.fixture(scope="session")
def identity_model(tmp_path_factory: pytest.TempPathFactory, tiled_model: Path) -> Path:
    """An ONNX file whose maps are the image's colours: what the instances are found in can be drawn."""
    import onnx
    from onnx import TensorProto, helper

    size = ["batch", "height", "width", 3]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["image"], ["maps"])],
        "identity",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, size)],
        [helper.make_tensor_value_info("maps", TensorProto.FLOAT, size)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    spec = InputSpec("image", None, None, 3, Tiling(256, 2, 2))
    card = Segmenter(tiled_model).card
    # Every seed is a nucleus, however small: so that none can be lost behind a minimum.
    method = Step(card.postprocessing.id, {**card.postprocessing.kwargs, "min_area_px": 1})
    card = replace(card, name="identity", input=spec, preprocessing=(), postprocessing=method)
    helper.set_model_props(model, {METADATA_KEY: card.to_json()})
    path = tmp_path_factory.mktemp("identity") / "identity.onnx"
    onnx.save(model, path)
    return path
