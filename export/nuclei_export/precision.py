"""The precisions that a model can be exported in."""

from __future__ import annotations

from copy import deepcopy
from enum import StrEnum
from typing import Any


class Precision(StrEnum):
    """Of weights and of what the network computes; images and maps are float32 in all."""

    FP32 = "fp32"
    INT8 = "int8"
    FP16 = "fp16"


TOLERANCES = {Precision.INT8: 0.1, Precision.FP16: 0.02}
"""What the same file may differ by from one machine to another, where that is not for the training to say.

In int8 a value that is rounded the other way differs by a whole step: what the model is worth is told by its AP.
"""


def to_fp16(proto: Any) -> Any:
    """Return a graph with weights and operators in fp16, for GPUs; its input and output stay float32.

    Parameters
    ----------
    proto : onnx.ModelProto

    Returns
    -------
    onnx.ModelProto
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16

    changed = convert_float_to_float16(deepcopy(proto), keep_io_types=True)
    # It appends the cast of the input, and a graph's nodes have to stand in the order in which they run.
    inputs = {value.name for value in changed.graph.input}
    nodes = sorted(changed.graph.node, key=lambda node: not inputs & {*node.input})
    del changed.graph.node[:]
    changed.graph.node.extend(nodes)
    return changed
