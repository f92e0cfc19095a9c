"""nuclei-explore: what a data set contains, or which images to annotate next."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nuclei_runtime.cli.command import EXIT_SOME_FAILED, printable, run_command
from nuclei_runtime.cli.progress import progress_bar
from nuclei_runtime.cli.selection import AxesOption, ChannelOption, SceneOption, ZOption
from nuclei_runtime.wording import counted, listed
from nuclei_train.cli.command import EXTRAS, DataArgument, say

if TYPE_CHECKING:
    from nuclei_runtime.readers.plane import Selection


def main() -> None:
    """Entry point of nuclei-explore."""
    run_command(explore, EXTRAS)


def explore(
    data: DataArgument,
    out: Annotated[
        Path,
        typer.Argument(file_okay=False, help="Folder for the tables, the figures and the unpacked zips."),
    ],
    suggest: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="DATA is a folder of images that need no annotations: suggest N of them to annotate next.",
        ),
    ] = None,
    annotated: Annotated[
        Path | None,
        typer.Option(
            metavar="DATA",
            help="With --suggest: data that are annotated already. Similar images are not suggested.",
        ),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="MODEL.onnx",
            dir_okay=False,
            help="With --suggest: the model to improve. Default: the bundled model.",
        ),
    ] = None,
    axes: AxesOption = None,
    channel: ChannelOption = None,
    z: ZOption = None,
    scene: SceneOption = None,
) -> None:
    """Summarise a data set of nuclei in tables and figures, and list its oddities.

    OUT/image_properties.csv: one row per image. OUT/oddities.csv: one row per oddity, such as an empty mask.

    OUT/sample.png and OUT/histograms.png: figures. OUT/data: the unpacked zips, if DATA is or contains zips.

    With --suggest N: OUT/suggestions.csv names the images whose annotation would teach the model most, and why.

    OUT/images: copies of them. OUT/results: what the model finds there, to correct. Then train on OUT.
    """
    from nuclei_runtime.errors import NucleiError
    from nuclei_runtime.readers.plane import Selection

    if suggest is not None:
        _suggest(data, out, suggest, annotated, model, Selection(axes, channel, z, scene))
        return
    if any(option is not None for option in (annotated, model, axes, channel, z, scene)):
        raise typer.BadParameter("--annotated, --model, --axes, --channel, --z and --scene need --suggest")
    from nuclei_train.exploration.explore import explore
    from nuclei_train.exploration.summary import format_summary

    try:
        with progress_bar("exploring images") as update:
            found = explore(data, out, say, update)
    except NucleiError:
        raise
    except OSError as error:  # errors in reading are NucleiErrors
        raise typer.BadParameter(f"cannot be written: {error}", param_hint="'out'") from error
    print(format_summary(found.images, found.oddities, found.areas_px))
    print("Written: " + ", ".join(str(file) for file in found.files))


def _suggest(images: Path, out: Path, n: int, annotated: Path | None, model: Path | None, selection: Selection) -> None:
    from nuclei_runtime.runs.config import RunConfig
    from nuclei_runtime.segmentation.options import SegmenterOptions
    from nuclei_train.exploration.suggest import IMAGES_FOLDER, RESULTS_FOLDER, SUGGESTION_TABLE, suggest

    config = RunConfig((str(images),), out, SegmenterOptions(model), selection=selection)
    with progress_bar("looking at images") as update:
        found = suggest(config, out, n, annotated, update)
    for name, reason in found.failed.items():
        say(printable(f"left out: {name}: {reason}"))
    if found.empty:
        say(printable(f"nothing stands out in {counted(len(found.empty), 'image')}: {listed(found.empty)}"))
    for row in found.table.itertuples():
        print(printable(f"{row.rank}. {row.image}: {row.why}"))
    print(
        f"{len(found.table)} of {counted(found.n_candidates, 'image')} suggested: {out / SUGGESTION_TABLE}; "
        f"copies: {out / IMAGES_FOLDER}"
    )
    print(
        f"next: correct the nuclei in {out / RESULTS_FOLDER} (labels, or geojson in QuPath, or roi in Fiji); then "
        f"nuclei-train {out} run --start {'bundled' if model is None else 'RUN, the run folder of the model'}"
    )
    if found.failed:
        raise typer.Exit(EXIT_SOME_FAILED)
