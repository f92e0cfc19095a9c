"""The export report: one page of Markdown beside the model."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nuclei_export.lint import Finding, flops_per_pixel
from nuclei_export.parity import Comparison
from nuclei_runtime.card import ModelCard


def write_report(
    path: Path,
    model: Path,
    card: ModelCard,
    proto: Any,
    comparisons: Sequence[Comparison],
    findings: Sequence[Finding],
) -> None:
    """Write what the exported file is, how it compares with Keras, and what the lint found."""
    graph = proto.graph
    parameters = sum(math.prod(one.dims) for one in graph.initializer if one.data_type == one.FLOAT)
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
        "## Parity of ONNX Runtime (CPU) and Keras",
        "",
        f"Tolerance {card.tolerance:g}, largest difference "
        f"{max(comparison.difference for comparison in comparisons):.2g} in any map.",
        "",
        "| batch | shape | largest difference | standard deviation of the maps |",
        "|---|---|---|---|",
        *(
            f"| {c.batch} | {' x '.join(map(str, c.shape))} | {c.difference:.2g} | {c.spread:.3f} |"
            for c in comparisons
        ),
        "",
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
    path.write_text("\n".join(lines), encoding="utf-8")


def _way_back(card: ModelCard) -> str:
    tiling = card.input.tiling
    if tiling is None:
        return "the maps are resized to the image's own size"
    halo = f"seen with {tiling.halo_px} px more on each side"
    return f"the maps of tiles of {tiling.core_px} px, {halo}, are put together"


def _signature(value: Any) -> str:
    tensor = value.type.tensor_type
    shape = ", ".join(dimension.dim_param or str(dimension.dim_value) for dimension in tensor.shape.dim)
    return f"{value.name}: float32 ({shape})"
