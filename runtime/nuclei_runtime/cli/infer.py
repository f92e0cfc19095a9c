"""nuclei-infer. The docstring of `infer` is the help text. Heavy imports are inside the functions."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from nuclei_runtime.cli.command import StainOption, ViewOption, run_command
from nuclei_runtime.cli.infer_modes import segment_all, verify_run, watch_folder
from nuclei_runtime.cli.measuring import (
    ExcludeBorderOption,
    ExpandOption,
    MaxAreaOption,
    MeasureOption,
    MinAreaOption,
    MinScoreOption,
)
from nuclei_runtime.cli.report_options import ConditionsOption, ReportOption
from nuclei_runtime.cli.running import (
    ImagesArgument,
    JsonOption,
    MaxMemoryOption,
    OutOption,
    OverwriteOption,
    ResumeOption,
    VerifyOption,
    mode_of,
    refuse_together,
    results_at,
)
from nuclei_runtime.cli.saving import (
    DEFAULT_OVERLAY,
    DEFAULT_SAVE,
    CsvStyleName,
    CsvStyleOption,
    OverlayOption,
    SaveOption,
    output_options,
)
from nuclei_runtime.cli.selection import (
    AxesOption,
    ChannelOption,
    FieldOption,
    LevelOption,
    MppOption,
    PixelSizeOption,
    SceneOption,
    WellOption,
    ZOption,
)
from nuclei_runtime.model.model_file import is_digest
from nuclei_runtime.model.session import CPU_PROVIDER
from nuclei_runtime.steps.scale import MAX_DIAMETER_PX, MIN_DIAMETER_PX
from nuclei_runtime.stores.url import is_url


class Precision(StrEnum):
    """The bundled models."""

    FP32 = "fp32"
    INT8 = "int8"


def main() -> NoReturn:
    """Entry point of nuclei-infer."""
    run_command(infer)


def infer(
    images: ImagesArgument,
    out: OutOption,
    model: Annotated[
        Path | None,
        typer.Option(
            "--model", metavar="MODEL.onnx", help="ONNX model written by nuclei-export. Default: the bundled model."
        ),
    ] = None,
    precision: Annotated[
        Precision,
        typer.Option(
            "--precision",
            help="Bundled model. int8 is faster on CPUs with VNNI instructions; it may shift outlines by a pixel.",
        ),
    ] = Precision.FP32,
    sha256: Annotated[
        str | None, typer.Option("--sha256", metavar="HEX", help="Refuse the model file unless it has this SHA-256.")
    ] = None,
    provider: Annotated[
        str,
        typer.Option("--provider", metavar="NAME", help="ONNX Runtime execution provider. nuclei-doctor lists them."),
    ] = CPU_PROVIDER,
    threads: Annotated[
        int | None,
        typer.Option("--threads", metavar="N", min=1, help="CPU threads. Default: all that are available."),
    ] = None,
    max_memory: MaxMemoryOption = None,
    tta: Annotated[
        bool,
        typer.Option(
            "--tta",
            help="Test-time augmentation: also shows the network the image enlarged, unless its nuclei are large. "
            "Usually better for small touching nuclei, but up to five times slower.",
        ),
    ] = False,
    diameter: Annotated[
        float | None,
        typer.Option(
            "--diameter",
            metavar="PX",
            min=MIN_DIAMETER_PX,
            max=MAX_DIAMETER_PX,
            help="Median diameter of the nuclei in pixels. Fixes the scale, which is otherwise chosen for each image.",
        ),
    ] = None,
    stain: StainOption = None,
    view: ViewOption = None,
    same_view: Annotated[
        bool,
        typer.Option("--same-view", help="Choose one scale and stain for all images, as an experiment needs."),
    ] = False,
    min_quality: Annotated[
        float | None,
        typer.Option(
            "--min-quality",
            metavar="AP",
            min=0,
            max=1,
            help="Flag images whose expected_ap is lower than this, 0 to 1. Default: the limit of the model.",
        ),
    ] = None,
    no_tissue_mask: Annotated[
        bool,
        typer.Option("--no-tissue-mask", help="Also segment the bare glass of large stained slides; slower."),
    ] = False,
    axes: AxesOption = None,
    channel: ChannelOption = None,
    z: ZOption = None,
    scene: SceneOption = None,
    well: WellOption = None,
    field: FieldOption = None,
    level: LevelOption = None,
    mpp: MppOption = None,
    pixel_size: PixelSizeOption = None,
    measure: MeasureOption = None,
    expand: ExpandOption = None,
    exclude_border: ExcludeBorderOption = False,
    min_area: MinAreaOption = None,
    max_area: MaxAreaOption = None,
    min_score: MinScoreOption = None,
    save: SaveOption = DEFAULT_SAVE,
    overlay: OverlayOption = DEFAULT_OVERLAY,
    csv_style: CsvStyleOption = CsvStyleName.COMMA,
    conditions: ConditionsOption = None,
    report: ReportOption = False,
    resume: ResumeOption = False,
    overwrite: OverwriteOption = False,
    verify: VerifyOption = False,
    shard: Annotated[
        str | None,
        typer.Option("--shard", metavar="i/n", help="Segment only part i of n, for array jobs; i counts from 1."),
    ] = None,
    dask: Annotated[
        str | None,
        typer.Option(
            "--dask",
            metavar="ADDRESS|local:N",
            help="Segment on a Dask cluster (extra dask): the address of its scheduler, or N processes of this "
            "computer. --threads and --max-memory are for each worker.",
        ),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Segment new images as they appear in the folders, until Ctrl-C or SIGTERM.")
    ] = False,
    settle: Annotated[
        float | None,
        typer.Option(
            "--settle",
            metavar="SECONDS",
            min=0.1,
            help="With --watch: time without changes after which a file counts as complete. Default: 3.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Find, outline and measure the nuclei in images.

    DIR/overlays: the images with the nuclei outlined, for a visual check.
    DIR/labels: label images; 0 is background, each nucleus has its number.
    DIR/nuclei.csv: one row per nucleus. DIR/images.csv: one row per image or plane.

    An image that cannot be read is reported, and the others are segmented.

    Exit codes: 0 success; 1 some images failed or differ; 2 wrong usage;
    3 a problem with the model or the computer; 130 Ctrl-C; 143 SIGTERM.
    """
    from nuclei_runtime.readers.plane import Selection
    from nuclei_runtime.readers.plates.field import PlateChoice, parse_names
    from nuclei_runtime.resources import parse_memory
    from nuclei_runtime.results.conditions import read_conditions
    from nuclei_runtime.results.shard import WHOLE, parse_shard
    from nuclei_runtime.runs.config import RunConfig
    from nuclei_runtime.segmentation.options import SegmenterOptions
    from nuclei_runtime.steps.view import parse_view

    refuse_together(resume=resume, overwrite=overwrite, verify=verify, watch=watch)
    refuse_together(watch=watch, shard=shard is not None)
    if dask is not None and watch:
        raise typer.BadParameter("--dask is for images that are there; --watch runs on one computer")
    if watch and any(map(is_url, (*images, out))):
        raise typer.BadParameter(
            "--watch takes local folders; to segment what has been added to a URL, run the same command again with "
            "--resume instead"
        )
    if report and (watch or shard is not None):
        raise typer.BadParameter("--report needs a whole run; run nuclei-report when all images are done")
    if model is not None and precision is not Precision.FP32:
        raise typer.BadParameter("--precision selects a bundled model; the model given by --model has its own")
    if sha256 is not None and not is_digest(sha256):
        raise typer.BadParameter(f"found {sha256!r}, expected 64 hexadecimal digits", param_hint="--sha256")
    if settle is not None and not watch:
        raise typer.BadParameter("--settle needs --watch")
    if view is not None and (diameter is not None or stain is not None or same_view):
        raise typer.BadParameter("--view fixes the scale and the stain; leave out --diameter, --stain and --same-view")
    if same_view and (watch or shard is not None):
        raise typer.BadParameter(
            "--same-view looks at images of the whole run before the first is segmented, which --watch and --shard "
            "cannot; run it on some of the images without these, and give the --view that it names"
        )
    measured = None if measure is None else tuple(name.strip() for name in measure.split(","))
    outputs, tables = output_options(save, overlay, csv_style, expand)
    config = RunConfig(
        sources=tuple(images),
        out=results_at(out),
        options=SegmenterOptions(
            model=model,
            precision=precision.value,
            sha256=sha256,
            provider=provider,
            threads=threads,
            tta=tta,
            diameter_px=diameter,
            stain=stain,
            view=None if view is None else parse_view(view),
            exclude_border=exclude_border,
            min_area=min_area,
            max_area=max_area,
            min_score=min_score,
            tissue_mask=not no_tissue_mask,
            min_quality=min_quality,
        ),
        max_memory=None if max_memory is None else parse_memory(max_memory),
        selection=Selection(axes, channel, z, scene, level, mpp, pixel_size, measured),
        outputs=outputs,
        tables=tables,
        mode=mode_of(resume=resume, overwrite=overwrite),
        shard=WHOLE if shard is None else parse_shard(shard),
        same_view=same_view,
        plate_choice=PlateChoice(parse_names(well), parse_names(field)),
        conditions=None if conditions is None else read_conditions(conditions),
    )
    if verify:
        verify_run(config, dask)
    elif watch:
        watch_folder(config, settle, as_json=as_json)
    else:
        segment_all(config, as_json=as_json, with_report=report, dask=dask)
