"""Nodes that slow a graph down, and the compute of a graph."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from nuclei_export.convert import CONVERSION_SIZE_PX

_SHAPE_ARITHMETIC = {"Shape", "Size", "Gather", "Slice", "Squeeze", "Unsqueeze", "Cast", "Range", "ConstantOfShape"}


@dataclass(frozen=True)
class Finding:
    """A kind of node that should not be in a graph.

    Attributes
    ----------
    what : str
        What it is and how to avoid it.
    nodes : tuple of str
        Names of the nodes.
    """

    what: str
    nodes: tuple[str, ...]


def lint(proto: Any) -> list[Finding]:
    """List the nodes that should not be in an ONNX graph.

    Transposes at the graph's input and output are the price of images as (N, H, W, C); all others are findings.
    """
    boundary = {value.name for value in (*proto.graph.input, *proto.graph.output)}
    tiles, transposes, shapes, foreign = [], [], [], []
    for node in proto.graph.node:
        if node.op_type == "Tile":
            tiles.append(node.name)
        elif node.op_type == "Transpose" and not boundary & {*node.input, *node.output}:
            transposes.append(node.name)
        elif node.op_type in _SHAPE_ARITHMETIC:
            shapes.append(node.name)
        if node.domain not in ("", "ai.onnx"):
            foreign.append(node.name)
    findings = [
        Finding("Tile: nearest-neighbour upsampling became copies; use a transposed convolution", tuple(tiles)),
        Finding("Transpose inside the graph: the layout changes between layers", tuple(transposes)),
        Finding("shape arithmetic: a size is computed in every run; fix height and width", tuple(shapes)),
        Finding("operators outside the ONNX standard: other runtimes do not have them", tuple(foreign)),
    ]
    return [finding for finding in findings if finding.nodes]


def flops_per_pixel(proto: Any) -> float:
    """Return the floating-point operations of all convolutions per pixel of the input, two per multiply-add.

    Counted from the weights and the inferred output shapes; activations, pooling and copies do not count.
    """
    return sum(flops_of_convolutions(proto).values())


def flops_of_convolutions(proto: Any) -> dict[str, float]:
    """Return the contribution of each convolution to `flops_per_pixel`, by node name."""
    import onnx

    sized = deepcopy(proto)
    for dimension in sized.graph.input[0].type.tensor_type.shape.dim[1:3]:
        if dimension.dim_param:
            dimension.dim_value = CONVERSION_SIZE_PX
    del sized.graph.output[0].type.tensor_type.shape.dim[:]
    inferred = onnx.shape_inference.infer_shapes(sized, data_prop=True)
    shapes = {
        value.name: [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        for value in (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output)
    }
    weights = shapes_of_weights(proto)
    _, height, width, _ = shapes[proto.graph.input[0].name]
    flops = {}
    for node in proto.graph.node:
        if node.op_type == "Conv":  # the whole kernel for every output pixel
            pixels = math.prod(shapes[node.output[0]][2:])
        elif node.op_type == "ConvTranspose":  # the whole kernel for every input pixel
            pixels = math.prod(shapes[node.input[0]][2:])
        else:
            continue
        flops[node.name] = 2 * math.prod(weights[node.input[1]]) * pixels / (height * width)
    return flops


def shapes_of_weights(proto: Any) -> dict[str, list[int]]:
    """Return the shape of each weight tensor, quantised or not, by the name that operators use."""
    shapes = {initializer.name: list(initializer.dims) for initializer in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in shapes:
            shapes[node.output[0]] = shapes[node.input[0]]
    return shapes
