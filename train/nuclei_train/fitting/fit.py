"""DATA -> a run folder with a fitted network."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from nuclei_runtime.errors import MissingExtraError
from nuclei_train import run_folder
from nuclei_train.batches.teacher import Teacher
from nuclei_train.data.binary_masks import refuse_binary_masks
from nuclei_train.data.dsb2018 import open_data, training_set
from nuclei_train.data.split import RANDOM_SPLIT_WARNING, START_WARNING, split_samples, write_split_table
from nuclei_train.data.split_table import SPLIT_FILE, read_split_table
from nuclei_train.errors import DatasetError, RunFolderError
from nuclei_train.fitting.run_description import defaults_of, describe_run
from nuclei_train.fitting.start import Start, load_network, read_start, recorded_start
from nuclei_train.networks.flops import flops_per_pixel
from nuclei_train.recipes.figures import draw_curves
from nuclei_train.recipes.recipe import Material, Recipe, Sources

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
        Go on with the run in the folder.
    start : Path, optional
        A run folder or a `.keras` file from whose weights to begin; without it from random ones. A run that goes on
        needs it no more.
    teacher : Path, optional
        An exported model whose answers are learned beside the truth. A run that goes on needs it again.
    """

    data: Path
    run: Path
    recipe: Recipe
    resume: bool
    start: Path | None = None
    teacher: Path | None = None


@dataclass(frozen=True)
class TrainingResult:
    """How a training ended.

    Attributes
    ----------
    epochs, best_epoch : int
        Counted from 1.
    scores : dict of str to dict of str to float
        Of the best checkpoint: set, then metric.
    seconds : float
        Of all epochs, those before a resume included.
    """

    epochs: int
    best_epoch: int
    scores: dict[str, dict[str, float]]
    seconds: float


class Reporter(Protocol):
    """Hears how a training goes; the command line prints it."""

    def say(self, sentence: str) -> None:
        """Take a sentence for the user."""

    def loading(self, total: int) -> AbstractContextManager[Callable[[], None]]:
        """Take the number of images to be read; while they are, hand out what is called after each."""


def train(config: TrainingConfig, reporter: Reporter) -> TrainingResult:
    """Fit the recipe's network and leave a run folder.

    Raises
    ------
    DatasetError
        DATA is not understood, or an image that training needs cannot be used.
    RunFolderError
        The folder holds another run, or one and `resume` was not asked for; or the checkpoint to start from does not
        fit the recipe's network.
    ModelError
        See `nuclei_train.batches.teacher.Teacher`; or the recipe takes none.
    """
    recipe = config.recipe
    datasets = open_data(config.data)
    dataset = training_set(datasets)
    table = read_split_table(config.data)
    split = split_samples(dataset, table, recipe.seed, recipe.validation_fraction)
    if table is None:
        reporter.say(RANDOM_SPLIT_WARNING.format(percent=100 * recipe.validation_fraction))
    test = next((d.samples for d in datasets if d.name == TEST_SET), ())
    teacher = Teacher(config.teacher) if config.teacher is not None else None
    sources = recipe.choose(Sources(split, table.modality if table is not None else {}, test, teacher))
    split = sources.split
    refuse_binary_masks((*split.train, *split.val))
    n_train, n_val = len(split.train), len(split.val)
    reporter.say(
        f"{dataset.path}: {n_train} images to fit, {n_val} to validate, "
        f"{dataset.n_images - n_train - n_val} left out ({split.source})"
    )

    start = read_start(config.start, recipe) if config.start is not None else None
    if start is None and config.resume:
        start = recorded_start(config.run)
    if table is None and start is not None:
        reporter.say(START_WARNING)
    identity = describe_run(recipe, dataset, split, start, teacher)
    has_state = run_folder.prepare(config.run, identity, defaults_of(recipe), resume=config.resume)

    started = time.perf_counter()
    with reporter.loading(len(sources)) as advance:
        material = recipe.load(sources, advance)
    loading_seconds = time.perf_counter() - started
    if not material.areas_px.size:
        raise DatasetError(f"{dataset.path}: no nucleus in the masks of all {n_train} images to fit; check the masks")
    # Only now: data that cannot be used leave a folder in which they can be tried again once they are mended.
    run_folder.write_run(config.run, {"status": "running", **identity, "versions": run_folder.versions()})
    if table is None:
        write_split_table(config.run / SPLIT_FILE, split)
    material.draw(config.run / "sanity_check.png")

    progress, best = _fit(config, material, start, has_state, reporter)

    best_epoch = 1 + int(np.argmin([row["val_loss"] for row in progress.history]))
    run_folder.write_history(config.run, progress.history)
    draw_curves(config.run / "curves.png", progress.history, best_epoch)
    outcome = recipe.finish(best, material, config.run)
    seconds = math.fsum(row["seconds"] for row in progress.history)
    run_folder.write_run(
        config.run,
        {
            "status": "complete",
            **identity,
            "versions": run_folder.versions(),
            "parameters": int(best.count_params()),
            "precision": best.dtype_policy.name,
            "kflop_per_pixel": round(flops_per_pixel(best) / 1e3, 1),
            "epochs": progress.epochs_done,
            "best_epoch": best_epoch,
            "scores": outcome.scores,
            "search": outcome.search,
            "seconds": {"loading": round(loading_seconds, 1), "epochs": round(seconds, 1)},
            "checkpoint": outcome.checkpoint,
            "model": outcome.model,
        },
    )
    return TrainingResult(progress.epochs_done, best_epoch, outcome.scores, seconds)


def _fit(
    config: TrainingConfig, material: Material, start: Start | None, has_state: bool, reporter: Reporter
) -> tuple[Any, Any]:
    """Fit from the start or from the last whole epoch; return the progress and the best checkpoint's model."""
    import keras

    from nuclei_train.fitting.resume import Progress, ResumableEarlyStopping, SaveProgress, load_state

    recipe, run = config.recipe, config.run
    keras.utils.set_random_seed(recipe.seed)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # Without it sums are made in an order that varies, and a resumed run would only resemble the other.
        tf.config.experimental.enable_op_determinism()

    model = recipe.build()
    progress = load_state(run / run_folder.STATE_FILE, model) if has_state else Progress()
    if has_state:
        reporter.say(f"going on after epoch {progress.epochs_done}")
    elif start is not None:
        if start.weights is None:
            raise RunFolderError(
                f"{run}: its run began with other weights and has no whole epoch to go on from; name their checkpoint "
                "again with --start"
            )
        model.set_weights(start.weights)
        reporter.say(f"starting from the weights of {start.checkpoint}")

    finished = progress.epochs_done >= recipe.epochs or progress.epochs_without_gain >= recipe.patience
    if not finished:
        early_stopping = ResumableEarlyStopping(progress, patience=recipe.patience)
        skipped_epochs = start.skipped_epochs if start is not None else 0
        model.fit(
            material.batches(progress.epochs_done, skipped_epochs),
            steps_per_epoch=material.steps_per_epoch,
            epochs=recipe.epochs,
            initial_epoch=progress.epochs_done,
            validation_data=material.validation,
            validation_batch_size=recipe.batch_size,
            shuffle=False,  # the batches are shuffled already
            verbose=1 if sys.stdout.isatty() else 2,  # a bar, or a line an epoch
            callbacks=[
                keras.callbacks.ModelCheckpoint(
                    run / run_folder.BEST_CHECKPOINT,
                    monitor="val_loss",
                    mode="min",
                    save_best_only=True,
                    initial_value_threshold=progress.best_val_loss,
                ),
                *_tensorboard(run, reporter),
                early_stopping,
                SaveProgress(progress, early_stopping, run / run_folder.STATE_FILE),
            ],
        )
    best = run / run_folder.BEST_CHECKPOINT
    if not best.is_file():
        raise RunFolderError(f"{best}: missing although the run is finished; train again in a new folder")
    weights = load_network(best, "train again in a new folder").get_weights()
    # Built anew, because a checkpoint does not hold the recipe's loss.
    best_model = recipe.build()
    best_model.set_weights(weights)
    # Only now, and from the checkpoint: saving as .h5 makes Keras forget the optimiser of the model that is saved,
    # and every later best.keras of a running training would be without one.
    best_model.save(run / run_folder.BEST_CHECKPOINT_H5)
    return progress, best_model


def _tensorboard(run: Path, reporter: Reporter) -> list[Any]:
    """The callback that writes TensorBoard logs, where TensorFlow is there to write them."""
    import keras

    if find_spec("tensorflow") is None:
        reporter.say("TensorFlow is not installed, so there are no TensorBoard logs")
        return []
    if find_spec("tensorboard") is None:
        raise MissingExtraError("tensorboard", "train")
    return [keras.callbacks.TensorBoard(run / run_folder.TENSORBOARD_FOLDER)]
