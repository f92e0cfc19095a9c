"""An int8 model gives the same numbers on every processor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from nuclei_runtime import Segmenter
from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.model import int8_sums, session
from nuclei_runtime.model.bundled import BUNDLED_MODELS
from nuclei_runtime.model.session import import_onnxruntime

CHANNELS = 16


def make_probe(weight: int = 127) -> bytes:
    scale = CHANNELS * 255 * 127 / int8_sums.RIGHT_ANSWER
    arrays = {
        "one": np.array(1, np.float32),
        "no_offset": np.array(0, np.uint8),
        "kernel": np.full((CHANNELS, CHANNELS, 1, 1), weight, np.int8),
        "no_kernel_offset": np.array(0, np.int8),
        "scale": np.array(scale, np.float32),
    }
    inputs = ["x", "one", "no_offset", "kernel", "one", "no_kernel_offset", "scale", "no_offset"]
    shape = [1, CHANNELS, 4, 4]
    graph = helper.make_graph(
        [helper.make_node("QLinearConv", inputs, ["y"], "sum")],
        "int8_probe",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, shape)],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString(deterministic=True)


def test_the_probe_is_what_it_says() -> None:
    assert int8_sums.PROBE.read_bytes() == make_probe()
    node = onnx.load(int8_sums.PROBE).graph.node[0]
    assert node.op_type == "QLinearConv"


def test_a_wrong_sum_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The result of a processor whose sums saturate at 32,767: about half."""
    wrong = tmp_path / "probe.onnx"
    wrong.write_bytes(make_probe(weight=64))
    monkeypatch.setattr(int8_sums, "PROBE", wrong)
    assert not int8_sums.are_exact.__wrapped__(import_onnxruntime())


def test_the_exact_way_gives_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    if not int8_sums.are_exact(import_onnxruntime()):
        pytest.skip("NOT RUN: this processor has no other way than the exact one")
    image, _ = fluorescence_field(1, height=192, width=208)
    (fast,) = Segmenter(BUNDLED_MODELS["int8"]).predict([image])
    monkeypatch.setattr(session.int8_sums, "are_exact", lambda _: False)
    (exact,) = Segmenter(BUNDLED_MODELS["int8"]).predict([image])
    np.testing.assert_array_equal(fast, exact)


def test_int8_finds_what_fp32_finds() -> None:
    image, truth = fluorescence_field(3, height=256, width=256)
    counts = {precision: Segmenter(path).segment(image).count for precision, path in BUNDLED_MODELS.items()}
    assert set(counts) == {"fp32", "int8"}
    assert abs(counts["int8"] - counts["fp32"]) <= 1
    assert counts["fp32"] >= 0.8 * truth.max()
