"""nuclei-measure. The docstring of `measure` is the help text. Heavy imports are inside the functions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NoReturn

import typer

from nuclei_runtime.cli.command import run_command
from nuclei_runtime.cli.infer_modes import segment_all, verify_run
from nuclei_runtime.cli.measuring import ExcludeBorderOption, ExpandOption, MaxAreaOption, MeasureOption, MinAreaOption
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


def main() -> NoReturn:
    """Entry point of nuclei-measure."""
    run_command(measure_labels)


def measure_labels(
    labels: Annotated[
        Path,
        typer.Argument(
            metavar="LABELS",
            help="A results folder in which labels were corrected; or a folder of label images, or of outlines from "
            "QuPath (.geojson) or ImageJ (.zip, .roi), with the names of their images.",
            show_default=False,
        ),
    ],
    images: ImagesArgument,
    out: OutOption,
    before: Annotated[
        Path | None,
        typer.Option(
            "--before",
            metavar="DIR",
            help="Results folder of the run whose labels were corrected, to count the changes. Default: LABELS, if "
            "it is one.",
        ),
    ] = None,
    max_memory: MaxMemoryOption = None,
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
    save: SaveOption = DEFAULT_SAVE,
    overlay: OverlayOption = DEFAULT_OVERLAY,
    csv_style: CsvStyleOption = CsvStyleName.COMMA,
    conditions: ConditionsOption = None,
    report: ReportOption = False,
    resume: ResumeOption = False,
    overwrite: OverwriteOption = False,
    verify: VerifyOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure nuclei that you have corrected, or outlined yourself, in images.

    Writes what nuclei-infer writes, for the nuclei in LABELS, which keep their numbers. No model is needed.
    Images without labels are left out and named. Give the same --axes, --channel, --z, --scene,
    --level or --mpp as to nuclei-infer.

    Exit codes: 0 success; 1 some images failed or differ, or labels have no image; 2 wrong usage;
    3 a problem with the computer; 130 Ctrl-C; 143 SIGTERM.
    """
    from nuclei_runtime.errors import InputsError
    from nuclei_runtime.readers.plane import Selection
    from nuclei_runtime.readers.plates.field import PlateChoice, parse_names
    from nuclei_runtime.resources import parse_memory
    from nuclei_runtime.results.conditions import read_conditions
    from nuclei_runtime.runs.config import RunConfig
    from nuclei_runtime.segmentation.options import SegmenterOptions

    refuse_together(resume=resume, overwrite=overwrite, verify=verify)
    results = results_at(out)
    for folder in (labels, before):
        if folder is not None and isinstance(results, Path) and folder.resolve() == results.resolve():
            raise InputsError(
                f"--out {out}: contains the labels, or those from before the correction; choose another folder"
            )
    measured = None if measure is None else tuple(name.strip() for name in measure.split(","))
    outputs, tables = output_options(save, overlay, csv_style, expand)
    config = RunConfig(
        sources=tuple(images),
        out=results,
        # One image after the other: of what is read and measured, little would be faster side by side.
        options=SegmenterOptions(threads=1, exclude_border=exclude_border, min_area=min_area, max_area=max_area),
        max_memory=None if max_memory is None else parse_memory(max_memory),
        selection=Selection(axes, channel, z, scene, level, mpp, pixel_size, measured),
        outputs=outputs,
        tables=tables,
        mode=mode_of(resume=resume, overwrite=overwrite),
        plate_choice=PlateChoice(parse_names(well), parse_names(field)),
        conditions=None if conditions is None else read_conditions(conditions),
        labels=labels,
        before=before,
    )
    if verify:
        verify_run(config)
    else:
        segment_all(config, as_json=as_json, with_report=report)
