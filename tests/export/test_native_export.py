"""The export of a network that takes any size: its graph, its parity, and the runtime on it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from nuclei_export.convert import convert
from nuclei_export.export import ExportConfig, ExportResult, export
from nuclei_export.lint import flops_per_pixel, lint
from nuclei_runtime import Segmenter
from nuclei_runtime.checks.sample import read_sample, replay_sample, sample_path
from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.model.session import load_session
from nuclei_runtime.steps.preprocess import preprocess
from nuclei_runtime.steps.step import MAPS
from nuclei_runtime.steps.tiling import Tiling, run_tiled
from nuclei_train.networks import flops
from nuclei_train.networks.architectures import ARCHITECTURES


@pytest.fixture(scope="module")
def exported(native_run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ExportResult]:
    """The model, and what the export printed about it."""
    model = tmp_path_factory.mktemp("native export") / "native.onnx"
    return model, export(ExportConfig(native_run, model, 18, "small", "0.1", "CC0-1.0", None))


def test_the_graph_takes_any_batch_height_and_width(exported: tuple[Path, ExportResult]) -> None:
    model, result = exported
    graph = onnx.load(model).graph
    for values, name, channels in ((graph.input, "image", 3), (graph.output, "maps", len(MAPS))):
        (value,) = values
        shape = [dimension.dim_param or dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        assert (value.name, shape) == (name, ["batch", "height", "width", channels])
    assert result.findings == []  # in particular, no shape arithmetic
    assert not any(node.op_type == "BatchNormalization" for node in graph.node)  # folded into the convolutions


def test_keras_and_onnx_runtime_agree_at_several_sizes(exported: tuple[Path, ExportResult]) -> None:
    _, result = exported
    shapes = {comparison.shape for comparison in result.comparisons}
    assert len({shape[0] for shape in shapes}) == len({shape[1:] for shape in shapes}) == 4
    assert any(height != width for _, height, width, _ in shapes)
    assert 0 < result.difference <= result.card.tolerance == 1e-4
    assert all(np.isfinite(comparison.difference) for comparison in result.comparisons)
    assert min(comparison.spread for comparison in result.comparisons) > 1e-3


def test_the_card_is_the_recipes(exported: tuple[Path, ExportResult], native_run: Path) -> None:
    model, result = exported
    run = json.loads((native_run / "run.json").read_text(encoding="utf-8"))
    card = load_session(model).card
    assert card == result.card
    assert (card.name, card.version, card.license) == ("small", "0.1", "CC0-1.0")
    assert card.postprocessing.kwargs == run["export"]["card"]["postprocessing"]["kwargs"]
    assert card.provenance["recipe"] == "native"
    assert card.output.maps == MAPS


def test_the_report_can_be_read(exported: tuple[Path, ExportResult]) -> None:
    model, result = exported
    assert result.report == model.with_suffix(".report.md")
    text = result.report.read_text(encoding="utf-8")
    tiling = result.card.input.tiling
    assert tiling is not None
    assert f"3. the maps of tiles of {tiling.core_px} px, computed with {tiling.halo_px} px more on each side" in text
    assert "4. `marker_watershed` {" in text
    assert "| input | `image: float32 (batch, height, width, 3)` |" in text
    compute = flops_per_pixel(onnx.load(model))
    assert f"{compute / 1e3:.1f} kFLOP per pixel" in text
    assert 1e3 < compute < 40e3  # a third of the filters of the recipe's 40


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_exports_cleanly_and_its_operations_are_counted_alike(name: str) -> None:
    build = ARCHITECTURES[name].build
    proto = convert(build(None, None, 3, filters=2, maps=3, activation="sigmoid"), 18)
    assert lint(proto) == []
    operators = {node.op_type for node in proto.graph.node}
    assert operators <= {"Transpose", "Conv", "ConvTranspose", "Relu", "Add", "Concat", "MaxPool", "Sigmoid"}
    counted = flops.flops_per_pixel(build(64, 64, 3, filters=2, maps=3))
    assert flops_per_pixel(proto) == pytest.approx(counted)


def whole(model: Path, image: NDArray[np.float32]) -> NDArray[np.float32]:
    return load_session(model).run(image[np.newaxis])[0]


def test_tiles_equal_the_whole(exported: tuple[Path, ExportResult]) -> None:
    """Up to rounding in float32: another width may be summed in another order."""
    model, result = exported
    tiling = result.card.input.tiling
    assert tiling is not None
    image = np.random.default_rng(5).random((320, 352, 3), dtype=np.float32)
    session = load_session(model)
    expected = whole(model, image)
    np.testing.assert_allclose(run_tiled(session.run, image, tiling), expected, atol=1e-6)
    without = run_tiled(session.run, image, Tiling(tiling.core_px, 16, tiling.multiple_of_px))
    assert np.abs(without - expected).max() > 1e-4


def test_the_sample_replays_and_shows_every_map(exported: tuple[Path, ExportResult]) -> None:
    model, _ = exported
    replay = replay_sample(Segmenter(model), sample_path(model))
    assert replay.ok
    sample = read_sample(sample_path(model))
    assert sample.maps.shape == (*sample.image.shape[:2], len(MAPS))
    assert sample.labels.shape == sample.image.shape[:2]


@pytest.mark.parametrize("shape", [(1, 1), (37, 50), (300, 210)])
def test_a_segmenter_runs_it_on_any_size(exported: tuple[Path, ExportResult], shape: tuple[int, int]) -> None:
    model, _ = exported
    segmenter = Segmenter(model)
    image = fluorescence_field(9, height=300, width=210)[0][: shape[0], : shape[1]]
    (maps,) = segmenter.predict([image])
    assert maps.shape == (*shape, len(MAPS))
    assert 0 <= maps.min() <= maps.max() <= 1
    assert segmenter.segment(image).labels.shape == shape

    network_input = preprocess(image, segmenter.card.preprocessing)
    pads = [(0, -length % 16) for length in shape]
    padded = np.pad(network_input, (*pads, (0, 0)), mode="symmetric")
    np.testing.assert_allclose(maps, whole(model, padded)[: shape[0], : shape[1]], atol=1e-6)
