"""What comes before the first batch of any training: the data, their split, the start and the run folder."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nuclei_runtime.errors import NucleiError
from nuclei_runtime.wording import counted
from nuclei_train import run_folder
from nuclei_train.batches.teacher import Teacher
from nuclei_train.data.binary_masks import refuse_binary_masks
from nuclei_train.data.finding import training_set
from nuclei_train.data.opening import open_with_splits
from nuclei_train.data.samples import Dataset
from nuclei_train.data.split import START_WARNING, split_samples, write_split_table
from nuclei_train.data.split_table import SPLIT_FILE
from nuclei_train.data.stopping import check_oddities
from nuclei_train.errors import DatasetError
from nuclei_train.fitting.replaying import open_replay, without_own
from nuclei_train.fitting.reporter import Reporter
from nuclei_train.fitting.run_description import defaults_of, describe_run, resumable_paths
from nuclei_train.fitting.start import BUNDLED, Start, read_start, recorded_start
from nuclei_train.recipes.recipe import Recipe, Sources

TEST_SET = "stage1_test"


@dataclass(frozen=True)
class TrainingConfig:
    """What nuclei-train was asked to do.

    Attributes
    ----------
    data, run : Path
        DATA and the run folder.
    recipe : Recipe
    resume : bool
        Resume the run in the folder, if there is one.
    start : Path, optional
        Whose weights to begin with; see `nuclei_train.fitting.start.read_start`. Without it a new run begins with
        random weights, and a resumed run with those that it began with.
    teacher : Path, optional
        An exported model whose predictions are learned together with the truth. A resumed run keeps its own.
    accept_oddities : bool
        Train even on data with the oddities `nuclei_train.data.oddities.STOPPING`. A resumed run has accepted them.
    replay : Path, optional
        The data that the start was trained on, part of which is fitted again. A resumed run keeps its own.
    """

    data: Path
    run: Path
    recipe: Recipe
    resume: bool
    start: Path | None = None
    teacher: Path | None = None
    accept_oddities: bool = False
    replay: Path | None = None


@dataclass(frozen=True)
class Prepared:
    """A training that can begin; its run folder exists.

    Attributes
    ----------
    config : TrainingConfig
    dataset : Dataset
    sources : Sources
    start : Start or None
    description : dict
        What run.json says of the run, whether it is complete or not.
    is_new : bool
        Whether the run begins now.
    has_state : bool
        Whether an epoch of it is kept.
    """

    config: TrainingConfig
    dataset: Dataset
    sources: Sources
    start: Start | None
    description: dict[str, Any]
    is_new: bool
    has_state: bool


def prepare(config: TrainingConfig, reporter: Reporter, if_random: str) -> Prepared:
    """Open and check the data and make the run folder, or check that the run in it can be resumed.

    Parameters
    ----------
    config : TrainingConfig
    reporter : Reporter
    if_random : str
        What to say if nothing gives the split.

    Raises
    ------
    DatasetError
        DATA or the data to replay are not understood, or there are grave oddities.
    RunFolderError
        See `nuclei_train.run_folder.prepare` and `nuclei_train.fitting.start.read_start`.
    ModelError
        See `nuclei_train.batches.teacher.Teacher`; or the recipe cannot use a teacher.
    """
    recipe = config.recipe
    recorded = run_folder.recorded_run(config.run) if config.resume else {}
    has_state = bool(recorded) and (config.run / run_folder.STATE_FILE).is_file()
    datasets, table = open_with_splits(config.data, reporter.say)
    dataset = training_set(datasets)
    split = split_samples(dataset, table, recipe.seed, recipe.validation_fraction)
    is_random = split.source == "random"  # a fine-tuning holds each image out in turn instead
    if is_random:
        reporter.say(if_random)
    test = next((d.samples for d in datasets if d.name == TEST_SET), ())
    named = {"teacher": config.teacher, "replay": config.replay}
    paths = {
        name: path or (Path(recorded["paths"][name]) if name in recorded.get("paths", {}) else None)
        for name, path in named.items()
    }
    teacher = Teacher(paths["teacher"]) if paths["teacher"] is not None else None
    old, replay = open_replay(paths["replay"], recipe, reporter.say) if paths["replay"] is not None else (None, None)
    sources = recipe.choose(Sources(split, table.modality if table is not None else {}, test, teacher, replay))
    split, replay = sources.split, sources.replay
    learned = [(dataset, (*split.train, *split.val))]
    if old is not None and replay is not None:
        replay = without_own(replay, dataset, reporter.say)
        sources = replace(sources, replay=replay)
        learned.append((old, (*replay.train, *replay.val)))
    for one, samples in learned:
        refuse_binary_masks(samples)
        if not recorded:  # a run that is resumed began with the same data
            with reporter.checking(len(samples)) as advance:
                check_oddities(one, samples, advance, reporter.say, accept=config.accept_oddities)
    n_train, n_val = len(split.train), len(split.val)
    reporter.say(
        f"{dataset.path}: {counted(n_train, 'image')} to fit, {n_val} to validate, "
        f"{dataset.n_images - n_train - n_val} left out ({split.source})"
    )
    start = (
        read_start(config.start, recipe)
        if config.start is not None
        else recorded_start(recorded, recipe, has_state=has_state)
    )
    if is_random and start is not None and start.path != BUNDLED:
        reporter.say(START_WARNING)
    identity = describe_run(recipe, dataset, sources, start)
    run_folder.prepare(config.run, identity, defaults_of(recipe), resume=config.resume)
    description = {
        **identity,
        "paths": resumable_paths({"start": start.path if start is not None else None, **paths}),
        "versions": run_folder.versions(),
    }
    run_folder.write_run(config.run, {"status": "running", **description})
    return Prepared(config, dataset, sources, start, description, not recorded, has_state)


def load(prepared: Prepared, reporter: Reporter) -> Any:
    """Return what the recipe loads, and write down a split that was drawn at random.

    Raises
    ------
    DatasetError
        An image cannot be used, or no image to fit has a nucleus.
    """
    config, sources = prepared.config, prepared.sources
    try:
        with reporter.loading(len(sources)) as advance:
            material = config.recipe.load(sources, advance)
        if not material.areas_px.size:
            n_train = len(sources.split.train)
            raise DatasetError(
                f"{prepared.dataset.path}: the masks of all {n_train} images to fit contain no nucleus; check the masks"
            )
    except NucleiError:
        if prepared.is_new:  # so that the same command works as soon as the data are fixed
            run_folder.discard_run(config.run)
        raise
    if sources.split.source == "random":
        write_split_table(config.run / SPLIT_FILE, sources.split)
    return material
