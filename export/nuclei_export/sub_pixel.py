"""Transposed convolutions -> convolutions and depth to space, which int8 kernels exist for."""

from __future__ import annotations

from typing import Any

import numpy as np


def replace_transposed(proto: Any) -> Any:
    """Return a graph in which every 2x2 transposed convolution of stride 2 is a 1x1 convolution and a depth to space.

    Kernel and stride alike, no output pixel gets anything from two input pixels: each input pixel gives a square of
    2x2, which a 1x1 convolution computes as four times as many channels (Shi et al. 2016, sub-pixel convolution). The
    numbers are the same.

    Parameters
    ----------
    proto : onnx.ModelProto

    Returns
    -------
    onnx.ModelProto
    """
    import onnx
    from onnx import helper, numpy_helper

    changed = onnx.ModelProto()
    changed.CopyFrom(proto)
    graph = changed.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    nodes = []
    for node in graph.node:
        attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        if node.op_type != "ConvTranspose" or attributes["strides"] != [2, 2]:
            nodes.append(node)
            continue
        kernel = numpy_helper.to_array(weights[node.input[1]])
        n_in, n_out, height, width = kernel.shape
        if (height, width) != (2, 2):
            nodes.append(node)
            continue
        # Depth to space (DCR) takes the channels as (row in the square, column in it, channel).
        squares = kernel.transpose(2, 3, 1, 0).reshape(4 * n_out, n_in, 1, 1)
        weights[node.input[1]].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(squares), node.input[1]))
        for bias in node.input[2:]:
            repeated = np.tile(numpy_helper.to_array(weights[bias]), 4)
            weights[bias].CopyFrom(numpy_helper.from_array(repeated, bias))
        layer = node.name.rsplit("/", 1)[0]
        deep, shuffle = f"{layer}/Conv_output", f"{layer}/DepthToSpace"
        nodes.append(helper.make_node("Conv", list(node.input), [deep], f"{layer}/Conv", kernel_shape=[1, 1]))
        nodes.append(helper.make_node("DepthToSpace", [deep], list(node.output), shuffle, blocksize=2, mode="DCR"))
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]
    onnx.checker.check_model(changed, full_check=True)
    return changed
