"""nuclei-export. The docstring is the help text; heavy imports stay inside the command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nuclei_export.convert import OPSETS
from nuclei_export.precision import Precision
from nuclei_export.quiet_tensorflow import quiet_tensorflow
from nuclei_runtime.cli.command import require_extra, run_command

if TYPE_CHECKING:
    from nuclei_export.export import ExportConfig

EXPORT_PACKAGES = ("tensorflow", "keras", "tf2onnx", "onnx", "onnxruntime")
"""The packages of the extra `export` that an export imports."""
BIOIMAGEIO_PACKAGES = ("bioimageio.core", "onnx", "onnxruntime")
"""Those of the extra `bioimageio`."""

PACKAGE_PARAMETERS = {"run", "model", "bioimageio", "author"}
"""The parameters that mean something if no run is exported."""


def export_main() -> None:
    """Entry point of nuclei-export."""
    run_command(export, {**dict.fromkeys(EXPORT_PACKAGES, "export"), "bioimageio": "bioimageio"})


def export(
    context: typer.Context,
    run: Annotated[
        Path | None,
        typer.Argument(
            help="Run folder written by nuclei-train. For --bioimageio alone, an ONNX model also works.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Argument(
            dir_okay=False,
            help="ONNX file to write, with a sample and a report next to it.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[str, typer.Option(help="Model name for the card.")] = "nuclei-unet",
    model_version: Annotated[str, typer.Option(help="Model version for the card.")] = "1.0.0",
    model_license: Annotated[str, typer.Option(help="SPDX identifier of the weights' licence.")] = "BSD-3-Clause",
    opset: Annotated[int, typer.Option(min=OPSETS[0], max=OPSETS[-1], help="ONNX opset version.")] = OPSETS[-1],
    precision: Annotated[
        Precision,
        typer.Option(help="int8 is for CPUs, and its accuracy is checked on images of the run; fp16 is for GPUs."),
    ] = Precision.FP32,
    reduce_range: Annotated[
        bool,
        typer.Option("--reduce-range", help="With int8: use 7-bit weights, for other runtimes on CPUs without VNNI."),
    ] = False,
    evaluation: Annotated[
        Path | None, typer.Option(help="Add the scores in this model's evaluation.json to the card.")
    ] = None,
    bioimageio: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write a package for bioimage.io to this folder. It contains the network without the watershed.",
        ),
    ] = None,
    author: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="With --bioimageio: an author of the model. Repeat for each person."),
    ] = None,
) -> None:
    """Export the best checkpoint of a run as one self-contained ONNX file.

    The file contains everything that nuclei-infer needs.

    Next to it are a sample (an image with its expected result, to check other machines with) and a report.

    With --bioimageio, also package the model for bioimage.io. To package an existing ONNX model, give it in place of
    RUN, without MODEL. Without both, the bundled model is packaged.
    """
    if bioimageio is None and (run is None or model is None):
        raise typer.BadParameter("give the run folder and the ONNX file to write")
    if bioimageio is None and author:
        raise typer.BadParameter("--author requires --bioimageio")
    if bioimageio is not None and model is not None and not author:  # known before the export, which takes a while
        raise typer.BadParameter("a package of a run requires --author: name who made the model, once for each person")
    if model is not None and model.suffix.lower() != ".onnx":  # the names of sample and report derive from it
        raise typer.BadParameter(f"found {model.name!r}, expected a file name ending in .onnx", param_hint="'model'")
    if reduce_range and precision is not Precision.INT8:
        raise typer.BadParameter("--reduce-range requires --precision int8")
    if bioimageio is not None:
        require_extra("bioimageio", *BIOIMAGEIO_PACKAGES)
    if run is not None and model is not None:
        require_extra("export", *EXPORT_PACKAGES)
        with quiet_tensorflow():
            import tensorflow  # noqa: F401

        from nuclei_export.export import ExportConfig

        _export_run(
            ExportConfig(run, model, opset, name, model_version, model_license, evaluation, precision, reduce_range)
        )
    else:
        _refuse_export_options(context)
    if bioimageio is not None:
        _package(bioimageio, model or run, tuple(author or ()))


def _refuse_export_options(context: typer.Context) -> None:
    """Raise a `typer.BadParameter` if an option is given that would change the model, which exists already."""
    for name in context.params.keys() - PACKAGE_PARAMETERS:
        if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE":
            option = name.replace("_", "-")
            raise typer.BadParameter(f"--{option} belongs to the export of a run: name RUN and the MODEL to write")


def _export_run(config: ExportConfig) -> None:
    from nuclei_export.export import export

    result = export(config)
    for sentence in result.caveats:
        print(f"warning: {sentence}", file=sys.stderr)
    for finding in result.findings:
        print(f"lint: {finding.what}: {', '.join(finding.nodes)}", file=sys.stderr)
    print(
        f"{config.model}: ONNX Runtime and Keras differ by at most {result.difference:.2g} in {result.compared} "
        f"(tolerance {result.tolerance:g})"
    )
    if result.quantisation is not None:
        print(f"int8: {result.quantisation}")
    print(f"report: {result.report}")


def _package(folder: Path, model: Path | None, authors: tuple[str, ...]) -> None:
    from nuclei_export.bioimageio.package import PackageConfig, write_package
    from nuclei_runtime.model.bundled import BUNDLED_MODEL

    write_package(PackageConfig(folder, model or BUNDLED_MODEL, authors))
    print(f"{folder}: bioimageio.core reproduces the test output; read its README.md, which says what it leaves out")
