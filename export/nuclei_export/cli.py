"""nuclei-export. The docstring is the help text; heavy imports stay inside the command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from nuclei_export.convert import OPSETS
from nuclei_export.precision import Precision
from nuclei_export.quiet_tensorflow import quiet_tensorflow
from nuclei_runtime.cli.command import require_extra, run_command

PACKAGES = ("tensorflow", "keras", "tf2onnx", "onnx", "onnxruntime")
"""The packages of the extra `export` that an export imports."""


def export_main() -> None:
    """Entry point of nuclei-export."""
    run_command(export, dict.fromkeys(PACKAGES, "export"))


def export(
    run: Annotated[Path, typer.Argument(help="Run folder made by nuclei-train.")],
    model: Annotated[
        Path,
        typer.Argument(dir_okay=False, help="ONNX file to write; its sample and its report are written next to it."),
    ],
    name: Annotated[str, typer.Option(help="Name of the model, for its card.")] = "nuclei-unet",
    model_version: Annotated[str, typer.Option(help="Version of the model, for its card.")] = "1.0.0",
    model_license: Annotated[str, typer.Option(help="SPDX identifier of the licence of the weights.")] = "BSD-3-Clause",
    opset: Annotated[
        int, typer.Option(min=OPSETS[0], max=OPSETS[-1], help="Version of the ONNX operator set.")
    ] = OPSETS[-1],
    precision: Annotated[
        Precision,
        typer.Option(help="int8 for CPUs, with its accuracy checked on the validation images; fp16 for GPUs."),
    ] = Precision.FP32,
    reduce_range: Annotated[
        bool, typer.Option("--reduce-range", help="For int8: 7-bit weights, for other runtimes on CPUs without VNNI.")
    ] = False,
    evaluation: Annotated[
        Path | None, typer.Option(help="evaluation.json of this model; its scores are added to the card.")
    ] = None,
) -> None:
    """Export the best checkpoint of a run as one self-contained ONNX file.

    The file contains everything that nuclei-infer needs.

    Next to it are a sample (an image with its expected result, to check other machines with) and a report.
    """
    if model.suffix.lower() != ".onnx":  # the names of sample and report derive from it
        raise typer.BadParameter(f"found {model.name!r}, expected a file name ending in .onnx", param_hint="'model'")
    if reduce_range and precision is not Precision.INT8:
        raise typer.BadParameter("--reduce-range requires --precision int8")
    require_extra("export", *PACKAGES)
    with quiet_tensorflow():
        import tensorflow  # noqa: F401

    from nuclei_export.export import ExportConfig, export

    result = export(
        ExportConfig(run, model, opset, name, model_version, model_license, evaluation, precision, reduce_range)
    )
    for finding in result.findings:
        print(f"lint: {finding.what}: {', '.join(finding.nodes)}", file=sys.stderr)
    print(
        f"{model}: ONNX Runtime and Keras differ by at most {result.difference:.2g} in fp32 "
        f"(tolerance {result.tolerance:g})"
    )
    if result.quantisation is not None:
        print(f"int8: {result.quantisation}")
    print(f"report: {result.report}")
