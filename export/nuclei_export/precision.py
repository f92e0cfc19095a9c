"""The precisions in which a model can be exported."""

from __future__ import annotations

from copy import deepcopy
from enum import StrEnum
from typing import Any


class Precision(StrEnum):
    """Precision of weights and computation; images and maps are always float32."""

    FP32 = "fp32"
    INT8 = "int8"
    FP16 = "fp16"


TOLERANCES = {Precision.INT8: 0.1, Precision.FP16: 0.02}
"""Tolerances between machines for precisions other than fp32, whose tolerance the training sets.

In int8, a value that is rounded the other way differs by a whole step; AP measures the accuracy of such a model.
"""


def to_fp16(proto: Any) -> Any:
    """Return a graph with weights and operators in fp16, for GPUs; input and output remain float32.

    Parameters
    ----------
    proto : onnx.ModelProto

    Returns
    -------
    onnx.ModelProto
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16

    changed = convert_float_to_float16(deepcopy(proto), keep_io_types=True)
    # It appends the cast of the input, but the nodes of a graph must be in execution order.
    inputs = {value.name for value in changed.graph.input}
    nodes = sorted(changed.graph.node, key=lambda node: not inputs & {*node.input})
    del changed.graph.node[:]
    changed.graph.node.extend(nodes)
    return changed
