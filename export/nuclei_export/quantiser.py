"""Quantises some convolutions of a graph to int8, and loads the result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nuclei_export.convert import drop_unused_opsets
from nuclei_export.equalise import FOLLOWERS
from nuclei_runtime.arrays import from_uint8
from nuclei_runtime.model.card import METADATA_KEY
from nuclei_runtime.model.session import Session, load_session

QUANTISED = ("Conv", "MaxPool", "Concat", *FOLLOWERS)
"""Operators that ONNX Runtime computes in int8. Followers are quantised with the convolution before them: with a Relu,
the range of the result begins at 0, and no part of the 8 bits is spent on negative values. The last convolution and its
sigmoid, which give the maps, remain in fp32: thresholds are applied to the maps, the logits range from -40 to 15, of
which eight bits resolve only a fifth, and they take less than a hundredth of the compute."""


class Quantiser:
    """Quantises one graph with ranges that are measured once.

    Parameters
    ----------
    proto : onnx.ModelProto
        With its card embedded, and without transposed convolutions.
    crops : (N, H, W, C) ndarray of uint8
        Images on which the ranges are measured; see `nuclei_runtime.arrays.to_uint8`.
    folder : Path
        For temporary files.
    reduce_range : bool
        7-bit weights.
    """

    def __init__(self, proto: Any, crops: NDArray[np.uint8], folder: Path, *, reduce_range: bool) -> None:
        import onnx

        self.proto = proto
        self._folder = folder
        self._source = folder / "fp32.onnx"
        onnx.save(proto, self._source)
        self._crops, self._reduce_range = crops, reduce_range
        read_in_fp32 = {name for node in proto.graph.node if node.op_type not in QUANTISED for name in node.input}
        self._parts = {}
        for node in proto.graph.node:
            if node.op_type == "Conv":
                part = _with_followers(node, proto.graph.node)
                if not read_in_fp32 & set(part[-1].output):
                    self._parts[node.name] = [one.name for one in part]
        self._others = [node.name for node in proto.graph.node if node.op_type in ("MaxPool", "Concat")]

    @property
    def convolutions(self) -> list[str]:
        """Names of the convolutions that can be in int8."""
        return list(self._parts)

    def quantise(self, convolutions: Sequence[str]) -> Any:
        """Return the graph with these convolutions in int8, and with pooling and concatenation if they are several."""
        import onnx
        from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

        target = self._folder / "int8.onnx"
        others = self._others if len(convolutions) > 1 else []
        quantize_static(
            self._source,
            target,
            _reader(self._crops, self.proto.graph.input[0].name),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTISED),
            nodes_to_quantize=[*(node for name in convolutions for node in self._parts[name]), *others],
            per_channel=True,
            reduce_range=self._reduce_range,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            calibration_cache_path=self._folder / "ranges.json",
        )
        quantised = onnx.load(target)
        drop_unused_opsets(quantised)
        return quantised

    def session(self, proto: Any) -> Session:
        """Load a graph with the card of the original one."""

        path = self._folder / "model.onnx"
        model = deepcopy(proto)
        if not any(entry.key == METADATA_KEY for entry in model.metadata_props):
            model.metadata_props.extend(self.proto.metadata_props)
        path.write_bytes(model.SerializeToString())
        return load_session(path)


def _reader(crops: NDArray[np.uint8], name: str) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left: Iterator[NDArray[np.uint8]] = iter(crops)

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            crop = next(self._left, None)
            return None if crop is None else {name: from_uint8(crop[np.newaxis])}

    return Reader()


def _with_followers(node: Any, nodes: Sequence[Any]) -> list[Any]:
    """Return a node and its followers."""
    after = [other for other in nodes if other.op_type in FOLLOWERS and other.input[0] == node.output[0]]
    return [node, *(follower for other in after for follower in _with_followers(other, nodes))]
