"""int8 and fp16: the same network, a measured loss, and a refusal if the loss cannot be measured."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from nuclei_export import quantise
from nuclei_export.errors import ParityError, RunFolderError
from nuclei_export.export import ExportConfig, ExportResult, export
from nuclei_export.lint import flops_per_pixel
from nuclei_export.precision import Precision
from nuclei_export.sub_pixel import replace_transposed
from nuclei_runtime import Segmenter
from nuclei_runtime.checks.sample import replay_sample, sample_path
from nuclei_runtime.checks.synthetic import fluorescence_field


def export_as(run: Path, model: Path, precision: Precision, **options: Any) -> ExportResult:
    return export(ExportConfig(run, model, 18, "small", "0.1", "CC0-1.0", None, precision, **options))


@pytest.fixture(scope="module")
def models(native_run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Precision, tuple[Path, ExportResult]]:
    folder = tmp_path_factory.mktemp("precisions")
    paths = {precision: folder / f"nuclei.{precision}.onnx" for precision in Precision}
    return {precision: (path, export_as(native_run, path, precision)) for precision, path in paths.items()}


@pytest.mark.parametrize("precision", Precision)
def test_each_precision_runs_and_says_what_it_is(
    models: dict[Precision, tuple[Path, ExportResult]], precision: Precision
) -> None:
    path, result = models[precision]
    segmenter = Segmenter(path, threads=1)
    assert segmenter.card == result.card
    assert segmenter.card.provenance["precision"] == precision
    assert replay_sample(segmenter, sample_path(path)).ok
    image, _ = fluorescence_field(5, height=120, width=136)
    (maps,) = segmenter.predict([image])
    (expected,) = Segmenter(models[Precision.FP32][0], threads=1).predict([image])
    difference = np.abs(maps - expected)
    assert difference.mean() < {"fp32": 1e-9, "int8": 0.02, "fp16": 0.002}[precision]
    if precision is not Precision.FP32:
        assert difference.max() > 0


def test_the_digest_of_each_is_its_own(models: dict[Precision, tuple[Path, ExportResult]]) -> None:
    digests = {result.card.provenance["graph_sha256"] for _, result in models.values()}
    assert len(digests) == 3


def test_int8_computes_its_convolutions_in_int8(models: dict[Precision, tuple[Path, ExportResult]]) -> None:
    graph = onnx.load(models[Precision.INT8][0]).graph
    weights = {tensor.name: tensor.data_type for tensor in graph.initializer}
    source = {node.output[0]: node for node in graph.node}
    result = models[Precision.INT8][1].quantisation
    assert result is not None
    left_out = result.trials[-1].left_out
    *convolutions, last = (node for node in graph.node if node.op_type == "Conv")
    assert last.input[1] in weights  # its kernel stays in fp32, as stored
    assert weights[last.input[1]] == TensorProto.FLOAT
    assert not any(node.op_type == "ConvTranspose" for node in graph.node)
    for node in convolutions:
        kernel = source.get(node.input[1])
        is_int8 = kernel is not None and weights[kernel.input[0]] == TensorProto.INT8
        assert is_int8 == (node.name not in left_out)
    assert len(left_out) < len(convolutions) / 2
    assert not any(node.domain for node in graph.node)


def test_the_work_is_counted_alike(models: dict[Precision, tuple[Path, ExportResult]]) -> None:
    counts = [flops_per_pixel(onnx.load(path)) for path, _ in models.values()]
    assert counts == pytest.approx([counts[0]] * 3)


def test_the_same_run_gives_the_same_bytes(
    native_run: Path, models: dict[Precision, tuple[Path, ExportResult]], tmp_path: Path
) -> None:
    again = tmp_path / "again.onnx"
    export_as(native_run, again, Precision.INT8)
    assert again.read_bytes() == models[Precision.INT8][0].read_bytes()


def test_the_report_says_what_was_lost_and_left_out(models: dict[Precision, tuple[Path, ExportResult]]) -> None:
    _, result = models[Precision.INT8]
    text = result.report.read_text(encoding="utf-8")
    assert result.quantisation is not None
    assert "## Quantisation" in text
    of_means, of_pooled = result.quantisation.limits
    assert of_means != of_pooled  # this run is validated on few nuclei
    assert f"loses no more than {of_means:.3g} (mean over images) and {of_pooled:.3g} (pooled)." in text
    assert (result.quantisation.ap_lost.mean(axis=1) <= result.quantisation.limits).all()
    for name, _, share in result.quantisation.sensitivity:
        kept = "fp32" if name in result.quantisation.trials[-1].left_out else "int8"
        assert f"| {name} | " in text
        assert f"| {share:.1%} | {kept} |" in text
    assert 0.9 < sum(share for _, _, share in result.quantisation.sensitivity) < 1  # except for the last one
    assert "## Quantisation" not in models[Precision.FP32][1].report.read_text(encoding="utf-8")


def test_seven_bit_weights_stay_within_seven_bits(native_run: Path, tmp_path: Path) -> None:
    model = tmp_path / "reduced.onnx"
    export_as(native_run, model, Precision.INT8, reduce_range=True)
    kernels = [numpy_helper.to_array(tensor) for tensor in onnx.load(model).graph.initializer if tensor.data_type == 3]
    kernels = [kernel for kernel in kernels if kernel.ndim == 4]
    assert kernels
    assert max(int(np.abs(kernel.astype(int)).max()) for kernel in kernels) <= 64


def test_the_cost_of_one_nucleus_may_be_lost() -> None:
    """Two images of 3 and 1 nuclei: if one of n no longer matches, n - 1 of the n + 1 true or found ones match."""
    images = [np.array([[0, 2, 5, 9]]), np.array([[0, 0, 7, 7]])]
    limits = quantise._largest_losses(images)
    one_of_three, one_of_one = 1 - 2 / 4, 1 - 0 / 2
    assert limits == pytest.approx([(one_of_three + one_of_one) / 2 / 2, 1 - 3 / 5])
    many = [np.arange(2000).reshape(40, 50)] * 10
    assert quantise._largest_losses(many) == pytest.approx([quantise.MAX_AP_LOSS] * 2)


def test_an_image_without_nuclei_has_no_match_to_lose() -> None:
    """It would have counted as if losing one cost 2, so that four such images allowed a loss of 0.3."""
    empty = [np.zeros((1, 4), int)] * 4
    images = [np.array([[0, 2, 5, 9]]), *empty]
    assert quantise._largest_losses(images) == pytest.approx([(1 - 2 / 4) / 5, 1 - 2 / 4])
    assert quantise._largest_losses(empty) == pytest.approx([quantise.MAX_AP_LOSS] * 2)


def test_numbers_beyond_fp16_are_refused(
    native_run: Path, models: dict[Precision, tuple[Path, ExportResult]], tmp_path: Path
) -> None:
    """One convolution gives a million times larger numbers, and the next takes them back: the same in fp32 only."""
    run = tmp_path / "run"
    shutil.copytree(native_run, run)
    network = keras.models.load_model(run / "inference.keras", compile=False)
    normalisation = network.get_layer("contraction_1_convolution_1_normalisation")
    gamma, beta, *statistics = normalisation.get_weights()
    normalisation.set_weights([1e6 * gamma, 1e6 * beta, *statistics])
    following = network.get_layer("contraction_1_convolution_2")
    following.set_weights([kernel / 1e6 for kernel in following.get_weights()])
    network.save(run / "inference.keras")
    assert export_as(run, tmp_path / "fp32.onnx", Precision.FP32).difference < 1e-4
    with pytest.raises(ParityError, match=r"Keras differ by .* in fp16 on .* nothing was written; export in fp32"):
        export_as(run, tmp_path / "fp16.onnx", Precision.FP16)
    assert not list(tmp_path.glob("fp16*"))
    _, fine = models[Precision.FP16]
    assert fine.compared is Precision.FP16
    assert 1e-6 < fine.difference < fine.tolerance == 0.02
    assert f"In fp16. Tolerance 0.02, largest difference {fine.difference:.2g}" in fine.report.read_text("utf-8")


def test_what_loses_too_much_is_not_written(native_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantise, "_largest_losses", lambda _: np.full(2, -1.0))  # nothing is as good as that
    with pytest.raises(
        ParityError, match=r"more than -1\.000 in AP on the \d+ nuclei .* or use more images for validation"
    ):
        export_as(native_run, tmp_path / "model.onnx", Precision.INT8)
    assert not list(tmp_path.iterdir())


def test_a_run_without_the_data_gets_a_message_on_how_to_get_it(native_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for name in ("run.json", "inference.keras"):
        shutil.copy(native_run / name, run / name)
    with pytest.raises(
        RunFolderError, match=r"the images to measure int8 on cannot be read .*quantisation\.npz.*nuclei-train --resume"
    ):
        export_as(run, tmp_path / "model.onnx", Precision.INT8)
    (run / "quantisation.npz").write_bytes(b"no zip")
    with pytest.raises(RunFolderError, match="the images to measure int8 on cannot be read"):
        export_as(run, tmp_path / "model.onnx", Precision.INT8)
    assert not (tmp_path / "model.onnx").exists()


def test_a_transposed_convolution_is_a_convolution_and_a_shuffle() -> None:
    rng = np.random.default_rng(0)
    kernel, bias = rng.normal(size=(5, 3, 2, 2)).astype(np.float32), rng.normal(size=3).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("ConvTranspose", ["x", "kernel", "bias"], ["y"], "up/ConvTranspose", strides=[2, 2])],
        "up",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 5, 6, 7])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3, 12, 14])],
        [numpy_helper.from_array(kernel, "kernel"), numpy_helper.from_array(bias, "bias")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    x = rng.normal(size=(2, 5, 6, 7)).astype(np.float32)
    one, other = (
        onnxruntime.InferenceSession(found.SerializeToString()).run(None, {"x": x})[0]
        for found in (proto, replace_transposed(proto))
    )
    np.testing.assert_allclose(one, other, atol=1e-5)
    operators = [node.op_type for node in replace_transposed(proto).graph.node]
    assert operators == ["Conv", "Transpose", "Reshape", "Transpose", "Reshape", "Reshape", "Transpose"]
    assert proto.graph.node[0].op_type == "ConvTranspose"  # the first remains unchanged
