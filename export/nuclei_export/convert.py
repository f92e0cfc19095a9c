"""Keras checkpoint -> ONNX graph with readable names."""

from __future__ import annotations

import hashlib
import zlib
from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from nuclei_export.errors import RunFolderError
from nuclei_runtime.errors import RuntimeEnvironmentError

OPSETS = (17, 18)
"""Supported by tf2onnx 1.17 and by ONNX Runtime 1.20; tf2onnx refuses 19."""


CONVERSION_SIZE_PX = 256
"""Height and width at which a network for any size is converted and its operations are counted."""


def load_checkpoint(path: Path) -> Any:
    """Load a `.keras` checkpoint for inference.

    Raises
    ------
    RunFolderError
        It is missing or cannot be read.
    RuntimeEnvironmentError
        Keras uses another backend than TensorFlow.
    """
    import keras

    if keras.backend.backend() != "tensorflow":
        raise RuntimeEnvironmentError(
            f"Keras uses {keras.backend.backend()}, but tf2onnx needs TensorFlow; set KERAS_BACKEND=tensorflow"
        )
    try:
        return keras.models.load_model(path, compile=False)
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile, zlib.error) as error:
        raise RunFolderError(
            f"{path}: not a checkpoint that Keras can read ({error}); train again, or copy the run folder again"
        ) from error


def convert(model: Any, opset: int) -> Any:
    """Convert a functional Keras model with one input and one output, both (N, H, W, C) float32.

    The graph takes any batch size. If the model takes any height and width, so does the graph: it is converted at one
    size, and its dimensions are then made dynamic. Otherwise tf2onnx would add nodes that compute every size at each
    run, although no node of a convolutional network depends on it (the parity check runs several sizes). Tensors,
    nodes and weights are named after the Keras layers, so that the same weights always give the same bytes.

    Returns
    -------
    onnx.ModelProto
    """
    import onnx
    import tensorflow as tf
    import tf2onnx

    (model_input,) = model.inputs
    name = model_input.name
    batch, height, width, channels = model_input.shape
    shape = (batch, height or CONVERSION_SIZE_PX, width or CONVERSION_SIZE_PX, channels)
    signature = (tf.TensorSpec(shape, tf.float32, name=name),)
    proto, _ = tf2onnx.convert.from_keras(model, input_signature=signature, opset=opset)
    _name_dimensions(proto, any_size=height is None)
    _name_after_layers(proto, [layer.name for layer in model.layers])
    drop_unused_opsets(proto)
    proto.graph.name = model.name
    onnx.checker.check_model(proto, full_check=True)
    return proto


def drop_unused_opsets(proto: Any) -> None:
    """Remove operator sets that are declared but not used by any node."""
    used_domains = {node.domain for node in proto.graph.node}
    kept = [entry for entry in proto.opset_import if entry.domain in used_domains]
    del proto.opset_import[:]
    proto.opset_import.extend(kept)


def graph_digest(proto: Any) -> str:
    """Return the SHA-256 of graph and weights without metadata, in hexadecimal."""

    bare = deepcopy(proto)
    del bare.metadata_props[:]
    return hashlib.sha256(bare.SerializeToString(deterministic=True)).hexdigest()


def _name_dimensions(proto: Any, *, any_size: bool) -> None:
    for value in (*proto.graph.input, *proto.graph.output):
        for axis, dimension in zip(
            ("batch", "height", "width", "channels"), value.type.tensor_type.shape.dim, strict=True
        ):
            if axis == "batch" or (any_size and axis in ("height", "width")):
                dimension.dim_param = axis


def _name_after_layers(proto: Any, layers: Sequence[str]) -> None:
    """Rename every node, inner tensor and weight to ``{layer}/{role}``."""
    graph = proto.graph
    fixed = {value.name for value in (*graph.input, *graph.output)}
    initializers = {initializer.name: initializer for initializer in graph.initializer}
    names: dict[str, str] = {}
    used: Counter[str] = Counter()

    def unique(name: str) -> str:
        used[name] += 1
        return name if used[name] == 1 else f"{name}_{used[name]}"

    for node in graph.node:
        weights = [tensor for tensor in node.input if tensor in initializers]
        # tf2onnx replaces some convolutions by unnamed ones, whose weights keep their names.
        layer = _layer_of([node.name, *node.output], layers) or _layer_of(weights, layers) or "graph"
        node.name = unique(f"{layer}/{node.op_type}")
        for index, tensor in enumerate(node.input):
            if tensor in initializers and tensor not in names:
                role = {1: "kernel", 2: "bias"}.get(index) if "Conv" in node.op_type else None
                names[tensor] = unique(f"{layer}/{role or f'{node.op_type}_input_{index}'}")
        for index, tensor in enumerate(node.output):
            if tensor not in fixed:
                names[tensor] = f"{node.name}_output" if index == 0 else f"{node.name}_output_{index}"
    for node in graph.node:
        node.input[:] = [names.get(tensor, tensor) for tensor in node.input]
        node.output[:] = [names.get(tensor, tensor) for tensor in node.output]
    for old, initializer in initializers.items():
        initializer.name = names.get(old, old)
    ordered = sorted(graph.initializer, key=lambda initializer: initializer.name)
    del graph.initializer[:]
    graph.initializer.extend(ordered)
    del graph.value_info[:]  # has the old names; ONNX Runtime infers the shapes again


def _layer_of(names: Sequence[str], layers: Sequence[str]) -> str:
    """Return the Keras layer that converted names derive from: the longest prefix of any of their parts, or nothing."""
    parts = [part for name in names for part in name.split("/")]
    matches = [layer for layer in layers for part in parts if part.startswith(layer)]
    return max(matches, key=len, default="")
