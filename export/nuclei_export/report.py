"""The export report: one page of Markdown next to the model."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nuclei_export.lint import flops_per_pixel, shapes_of_weights
from nuclei_export.quantise import Quantisation
from nuclei_export.result import ExportResult
from nuclei_runtime.json_fields import canonical_json
from nuclei_runtime.metrics import IOU_THRESHOLDS
from nuclei_runtime.model.card import ModelCard
from nuclei_runtime.steps.flags import FlagLimits


def write_report(model: Path, proto: Any, result: ExportResult) -> None:
    """Describe the exported file, its parity with Keras, its quantisation and the findings of the lint."""
    card, comparisons, findings = result.card, result.comparisons, result.findings
    graph = proto.graph
    weights = shapes_of_weights(proto)
    parameters = sum(
        math.prod(weights[name])
        for node in graph.node
        if node.op_type in ("Conv", "ConvTranspose")
        for name in node.input[1:]
    )
    operators = Counter(node.op_type for node in graph.node)
    lines = [
        f"# {card.name} {card.version}",
        "",
        card.description,
        "",
        "## File",
        "",
        "| | |",
        "|---|---|",
        f"| file | `{model.name}`, {model.stat().st_size / 1e6:.2f} MB |",
        f"| parameters | {parameters:,} |",
        f"| compute | {flops_per_pixel(proto) / 1e3:.1f} kFLOP per pixel of the network's input |",
        f"| opset | {', '.join(str(entry.version) for entry in proto.opset_import)} |",
        *(f"| input | `{_signature(value)}` |" for value in graph.input),
        *(f"| output | `{_signature(value)}` |" for value in graph.output),
        f"| operators | {', '.join(f'{count} {name}' for name, count in operators.most_common())} |",
        f"| licence | {card.license} |",
        *(f"| {key.replace('_', ' ')} | {value} |" for key, value in card.provenance.items()),
        "",
        "## Before and after the network",
        "",
        *(f"{index}. `{step.id}` {step.kwargs}" for index, step in enumerate(card.preprocessing, 1)),
        f"{len(card.preprocessing) + 1}. the network",
        f"{len(card.preprocessing) + 2}. {_way_back(card)}",
        f"{len(card.preprocessing) + 3}. `{card.postprocessing.id}` {card.postprocessing.kwargs}",
        "",
        *([] if card.views is None else [f"Choice of views: {canonical_json(asdict(card.views))}", ""]),
        *([] if card.score is None else [f"Score of a nucleus: {canonical_json(asdict(card.score))}", ""]),
        *([] if card.flags is None else [f"Ordinary images: {_limits_of(card.flags)}", ""]),
        "## Parity of ONNX Runtime (CPU) and Keras",
        "",
        f"In {result.compared}. Tolerance {result.tolerance:g}, largest difference "
        f"{max(comparison.difference for comparison in comparisons):.2g} in any map.",
        "",
        "| batch | shape | largest difference | standard deviation of the maps |",
        "|---|---|---|---|",
        *(
            f"| {c.batch} | {' x '.join(map(str, c.shape))} | {c.difference:.2g} | {c.spread:.3f} |"
            for c in comparisons
        ),
        "",
        *([] if result.quantisation is None else _quantisation(result.quantisation)),
        "## Lint of the graph",
        "",
        *([f"- {finding.what}: {', '.join(finding.nodes)}" for finding in findings] or ["Nothing found."]),
        "",
        "## Scores",
        "",
    ]
    if card.evaluation:
        lines += ["| data | metric | value |", "|---|---|---|"]
        lines += [f"| {score.dataset} | {score.metric} | {score.value:.4f} |" for score in card.evaluation]
    else:
        lines += ["None yet: run nuclei-evaluate, then export again with --evaluation."]
    lines += ["", "## Limitations", "", *(f"- {sentence}" for sentence in card.limitations), ""]
    result.report.write_text("\n".join(lines), encoding="utf-8")


def _quantisation(quantisation: Quantisation) -> list[str]:
    thresholds = "".join(f" {threshold:g} |" for threshold in IOU_THRESHOLDS)
    trials = [
        ("fp32", quantisation.fp32),
        *((f"int8, {len(trial.left_out)} in fp32", trial) for trial in quantisation.trials),
    ]
    chosen = quantisation.trials[-1]
    of_means, of_pooled = quantisation.limits
    return [
        "## Quantisation",
        "",
        f"int8 {quantisation}. Each trial leaves one more convolution in fp32, until AP, averaged over the thresholds, "
        f"loses no more than {of_means:.3g} (mean over images) and {of_pooled:.3g} (pooled).",
        "",
        f"| AP on {quantisation.scored_on} at IoU |{thresholds}",
        f"|---|{'---|' * len(IOU_THRESHOLDS)}",
        *(
            f"| {name}, {kind} |{''.join(f' {value:.4f} |' for value in row)}"
            for name, trial in trials
            for kind, row in zip(("mean over images", "pooled"), trial.ap, strict=True)
        ),
        "",
        "| convolution | mean error of the maps if only it is in int8 | share of the compute | |",
        "|---|---|---|---|",
        *(
            f"| {name} | {error:.2g} | {share:.1%} | {'fp32' if name in chosen.left_out else 'int8'} |"
            for name, error, share in quantisation.sensitivity
        ),
        "",
    ]


def _limits_of(flags: FlagLimits) -> str:
    """Return the limits of ordinary images, without what the training images look like."""
    return canonical_json({name: limit for name, limit in asdict(flags).items() if name != "familiar"})


def _way_back(card: ModelCard) -> str:
    tiling = card.input.tiling
    if tiling is None:
        return "the maps are resized to the size of the image"
    halo = f"computed with {tiling.halo_px} px more on each side"
    return f"the maps of tiles of {tiling.core_px} px, {halo}, are assembled"


def _signature(value: Any) -> str:
    tensor = value.type.tensor_type
    shape = ", ".join(dimension.dim_param or str(dimension.dim_value) for dimension in tensor.shape.dim)
    return f"{value.name}: float32 ({shape})"
