"""Cross-layer equalisation: gives all channels of a tensor the same range, so that one 8-bit scale suits them all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.model.session import import_onnxruntime

FOLLOWERS = ("Relu", "Transpose", "Reshape")
"""Operators between a convolution and its readers: they move values, or keep the positive ones."""

LEAST_RANGE = 1e-3
"""Smallest range of a channel relative to its tensor's: a nearly silent channel is not amplified further."""

BATCH_SIZE = 8


def equalise(proto: Any, images: NDArray[np.float32]) -> Any:
    """Return an equivalent graph in which all channels of a tensor have the same largest magnitude.

    int8 has one scale per tensor: a channel whose values are a tenth as large as another's has only a tenth of the
    steps. An output channel of a convolution can be divided by a positive factor if the weights of all its readers are
    multiplied by the same factor, because Relu, maxima and moves of values commute with it (Nagel et al. 2019,
    arXiv:1906.04721, who take the ranges from the weights; here they are measured on images). The input of a sigmoid
    is left unchanged.

    Parameters
    ----------
    proto : onnx.ModelProto
        Without transposed convolutions: see `nuclei_export.sub_pixel.replace_transposed`.
    images : (N, H, W, C) ndarray of float32
        Images on which the ranges are measured.

    Returns
    -------
    onnx.ModelProto
    """
    from onnx import numpy_helper

    changed = deepcopy(proto)
    links = _Links(changed.graph)
    ranges = _ranges(proto, links.between, images)
    weights = {tensor.name: tensor for tensor in changed.graph.initializer}
    values = {name: numpy_helper.to_array(tensor).copy() for name, tensor in weights.items()}
    for convolution in links.convolutions:
        result = links.result(convolution)
        readers = links.readers(result, ranges)
        if readers is None:
            continue
        largest = ranges[result]
        if not largest.any():
            continue
        factors = np.maximum(largest / largest.max(), LEAST_RANGE)
        kernel, *biases = convolution.input[1:]
        # In a sub-pixel convolution, each pixel of the square has all channels.
        repeated = np.tile(factors, len(values[kernel]) // len(factors))
        values[kernel] /= repeated[:, np.newaxis, np.newaxis, np.newaxis]
        for bias in biases:
            values[bias] /= repeated
        for reader in readers:
            values[reader.kernel][:, reader.first : reader.first + len(factors)] *= factors[:, np.newaxis, np.newaxis]
    for name, tensor in weights.items():
        tensor.CopyFrom(numpy_helper.from_array(values[name], name))
    return changed


@dataclass(frozen=True)
class _Reader:
    """The kernel of a convolution that reads a tensor, and the tensor's first channel in its input."""

    kernel: str
    first: int


class _Links:
    """The connections between the convolutions of a graph."""

    def __init__(self, graph: Any) -> None:
        self.convolutions = [node for node in graph.node if node.op_type == "Conv"]
        self._takers: dict[str, list[Any]] = {}
        for node in graph.node:
            for name in node.input:
                self._takers.setdefault(name, []).append(node)
        self.between = sorted(
            {self.result(node) for node in self.convolutions}
            | {name for node in graph.node if node.op_type == "Concat" for name in node.input}
        )

    def result(self, convolution: Any) -> str:
        """Return the tensor after a convolution and its followers."""
        name = str(convolution.output[0])
        while len(takers := self._takers.get(name, [])) == 1 and takers[0].op_type in FOLLOWERS:
            name = str(takers[0].output[0])
        return name

    def readers(self, name: str, ranges: Mapping[str, NDArray[np.float32]], first: int = 0) -> list[_Reader] | None:
        """Return all convolutions that read a tensor, or None if something else reads it, too."""
        found: list[_Reader] = []
        for node in self._takers.get(name, []):
            if node.op_type == "Conv":
                found.append(_Reader(str(node.input[1]), first))
                continue
            if node.op_type not in ("MaxPool", "Concat"):
                return None
            before = list(node.input)[: list(node.input).index(name)]
            behind = self.readers(str(node.output[0]), ranges, first + sum(len(ranges[one]) for one in before))
            if behind is None:
                return None
            found += behind
        return found or None


def _ranges(proto: Any, names: Sequence[str], images: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Return the largest magnitude in each channel of the named tensors (N, C, H, W)."""
    from onnx import helper

    shown = deepcopy(proto)
    (source,) = (value.name for value in shown.graph.input)
    shown.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    session = import_onnxruntime().InferenceSession(shown.SerializeToString(), providers=["CPUExecutionProvider"])
    ranges: dict[str, NDArray[np.float32]] = {}
    for start in range(0, len(images), BATCH_SIZE):
        tensors = session.run(list(names), {source: images[start : start + BATCH_SIZE]})
        for name, tensor in zip(names, tensors, strict=True):
            largest = np.abs(tensor).max(axis=(0, 2, 3))
            ranges[name] = np.maximum(ranges.get(name, largest), largest)
    return ranges
