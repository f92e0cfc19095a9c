"""What the user asked of a run, and the images and labels that it is about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from nuclei_runtime.errors import ImageError, InputsError
from nuclei_runtime.readers.channels import UndecidedError
from nuclei_runtime.readers.opening import open_planes
from nuclei_runtime.readers.plane import ALL_CHANNELS, Selection
from nuclei_runtime.readers.plates.field import ALL_FIELDS, PlateChoice
from nuclei_runtime.resources import cpu_count
from nuclei_runtime.results.conditions import Conditions
from nuclei_runtime.results.folder import Mode
from nuclei_runtime.results.shard import WHOLE, Shard
from nuclei_runtime.results.table_formats import TableOptions
from nuclei_runtime.runs.inputs import ImageFile, Inputs, find_images
from nuclei_runtime.runs.label_files import LabelSet, find_labels
from nuclei_runtime.runs.remote_inputs import fetched, find_remote_images
from nuclei_runtime.segmentation.options import SegmenterOptions
from nuclei_runtime.stores.remote import RemoteFolder
from nuclei_runtime.stores.url import is_url
from nuclei_runtime.writers.outputs import OutputOptions


@dataclass(frozen=True)
class RunConfig:
    """What the user asked for.

    Attributes
    ----------
    sources : tuple of str
        Images, folders or globs; paths or URLs.
    out : Path or RemoteFolder
        The results folder.
    options : SegmenterOptions
        Their threads are for the whole run. The results do not depend on their number.
    max_memory : int, optional
        See `nuclei_runtime.segmentation.blocks.segment_plane`. The results do not depend on it.
    selection : Selection
    outputs : OutputOptions
    tables : TableOptions
    mode : Mode
    shard : Shard
    same_view : bool
        Whether all images are shown in one view; see `nuclei_runtime.runs.same_view`. Not with one shard of several.
    plate_choice : PlateChoice
        Which fields of plates are segmented. The results of a field do not depend on it.
    conditions : Conditions, optional
        Of the images, for the joined tables.
    labels, before : Path, optional
        Labels to measure, in place of a model that finds nuclei, and the results whose labels were corrected; see
        `nuclei_runtime.runs.label_files.find_labels`.
    """

    sources: tuple[str, ...]
    out: Path | RemoteFolder
    options: SegmenterOptions = field(default_factory=SegmenterOptions)
    max_memory: int | None = None
    selection: Selection = field(default_factory=Selection)
    outputs: OutputOptions = field(default_factory=OutputOptions)
    tables: TableOptions = field(default_factory=TableOptions)
    mode: Mode = "new"
    shard: Shard = WHOLE
    same_view: bool = False
    plate_choice: PlateChoice = ALL_FIELDS
    conditions: Conditions | None = None
    labels: Path | None = None
    before: Path | None = None


def refuse_undecided(files: Sequence[ImageFile], selection: Selection) -> None:
    """Refuse a run over plates if their channel or their depths are not chosen: every field would fail alike.

    Raises
    ------
    InputsError
        The first field of a plate says what there is to choose from.
    """
    if not all(file.field for file in files):
        return
    for path in dict.fromkeys(file.path for file in files):
        first = next(file for file in files if file.path == path)
        try:
            with fetched(first) as file, open_planes(file.source, selection):
                pass
        except UndecidedError as error:
            raise InputsError(f"{path.name}: each field holds {error.found}; {error.choice}") from error
        except (ImageError, OSError):  # the run will report it
            continue


def refuse_unknown_channels(files: Sequence[ImageFile], selection: Selection) -> None:
    """Refuse a run if a channel that is to be measured is in none of its images: its name is wrong.

    Images are opened until each channel is found, as a rule only the first. Images that URLs name are not looked at,
    because they would have to be fetched.

    Raises
    ------
    InputsError
    """
    sought: dict[str, str] = (
        {} if selection.measure in (None, (ALL_CHANNELS,)) else dict.fromkeys(selection.measure, "")
    )
    for file in files:
        if not sought or file.origin is not None:
            return
        try:
            with open_planes(file.source, selection) as planes:
                absent = [{one.name: str(one.absent) for one in plane.measured if one.absent} for plane in planes]
        except (ImageError, OSError):  # the run will report it
            continue
        sought = {
            name: reason or f"{file.name}: {absent[0][name]}"
            for name, reason in sought.items()
            if all(name in of_plane for of_plane in absent)
        }
    if any(sought.values()):
        has = "has this channel" if len(sought) == 1 else "has one of these channels"
        raise InputsError(
            f"--measure {','.join(sought)}: no image that can be opened {has}; {next(iter(sought.values()))}"
        )


def n_threads(config: RunConfig) -> int:
    """Return how many threads a run may use."""
    return cpu_count() if config.options.threads is None else config.options.threads


def find_inputs(config: RunConfig) -> tuple[Inputs, LabelSet | None]:
    """Return the images of a run and, if the nuclei are given, their labels: only images with labels then.

    Raises
    ------
    InputsError
        See `find_images`, `refuse_undecided`, `find_labels` and `refuse_unknown_channels`.
    RuntimeEnvironmentError
        See `find_remote_images`.
    """
    find = find_remote_images if any(map(is_url, config.sources)) else find_images
    inputs = find(config.sources, out=config.out, choice=config.plate_choice)
    refuse_undecided(inputs.files, config.selection)
    labels = None if config.labels is None else find_labels(config.labels, inputs.files, config.before)
    inputs = inputs if labels is None else replace(inputs, files=labels.images)
    refuse_unknown_channels(inputs.files, config.selection)
    return inputs, labels
