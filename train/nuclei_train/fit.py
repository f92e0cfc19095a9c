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

from nuclei_runtime.errors import DatasetError, MissingExtraError, RunFolderError
from nuclei_runtime.preprocess import CHANNELS
from nuclei_train import run_folder
from nuclei_train.arrays import TruthArrays, load_images, load_truth
from nuclei_train.dsb2018 import open_data, training_set
from nuclei_train.figures import draw_curves, draw_samples
from nuclei_train.recipes import Recipe
from nuclei_train.resume import STATE_FILE
from nuclei_train.run_description import describe_model, describe_run
from nuclei_train.split import RANDOM_SPLIT_WARNING, split_samples
from nuclei_train.split_table import read_split_table

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
    """

    data: Path
    run: Path
    recipe: Recipe
    resume: bool


@dataclass(frozen=True)
class TrainingResult:
    """How a training ended.

    Attributes
    ----------
    epochs, best_epoch : int
        Counted from 1.
    scores : dict of str to dict of str to float
        Of the best checkpoint: set, then loss and accuracy.
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
        The folder holds another run, or one and `resume` was not asked for.
    """
    recipe = config.recipe
    datasets = open_data(config.data)
    dataset = training_set(datasets)
    table = read_split_table(config.data)
    split = split_samples(dataset, table, recipe.seed, recipe.validation_fraction)
    if table is None:
        reporter.say(RANDOM_SPLIT_WARNING.format(percent=100 * recipe.validation_fraction))
    n_train, n_val = len(split.train), len(split.val)
    reporter.say(
        f"{dataset.path}: {n_train} images to fit, {n_val} to validate, "
        f"{len(dataset.samples) - n_train - n_val} left out ({split.source})"
    )

    identity = describe_run(recipe, dataset, split)
    has_state = run_folder.prepare(config.run, identity, resume=config.resume)

    test = next((d for d in datasets if d.name == TEST_SET), None)
    started = time.perf_counter()
    with reporter.loading(n_train + n_val + (len(test.samples) if test else 0)) as advance:
        train_arrays = load_truth(split.train, recipe.preprocessing, recipe.size_px, advance)
        val_arrays = load_truth(split.val, recipe.preprocessing, recipe.size_px, advance)
        test_images = load_images(test.samples, recipe.preprocessing, advance) if test else None
    loading_seconds = time.perf_counter() - started
    if not train_arrays.areas_px.size:
        raise DatasetError(f"{dataset.path}: no nucleus in the masks of all {n_train} images to fit; check the masks")
    # Only now: data that cannot be used leave a folder in which they can be tried again once they are mended.
    run_folder.write_run(config.run, {"status": "running", **identity, "versions": run_folder.versions()})
    draw_samples(
        config.run / "sanity_check.png",
        "As the network gets them",
        train_arrays.ids,
        train_arrays.images,
        train_arrays.foreground,
        None,
        seed=recipe.seed,
    )

    progress, model = _fit(config, train_arrays, val_arrays, has_state, reporter)

    best_epoch = 1 + int(np.argmin([row["val_loss"] for row in progress.history]))
    run_folder.write_history(config.run, progress.history)
    draw_curves(config.run / "curves.png", progress.history, best_epoch)
    scores = {}
    for name, arrays in (("train", train_arrays), ("val", val_arrays)):
        loss, accuracy = model.evaluate(
            arrays.images, arrays.foreground.astype(np.float32), batch_size=recipe.batch_size, verbose=0
        )
        scores[name] = {"loss": float(loss), "accuracy": float(accuracy)}
        _draw_predictions(config, model, name, arrays.ids, arrays.images, arrays.foreground)
    if test is not None and test_images is not None:
        _draw_predictions(config, model, "test", tuple(s.image_id for s in test.samples), test_images, None)

    seconds = math.fsum(row["seconds"] for row in progress.history)
    run_folder.write_run(
        config.run,
        {
            "status": "complete",
            **identity,
            "versions": run_folder.versions(),
            "parameters": int(model.count_params()),
            "epochs": progress.epochs_done,
            "best_epoch": best_epoch,
            "scores": scores,
            "seconds": {"loading": round(loading_seconds, 1), "epochs": round(seconds, 1)},
            "model": describe_model(recipe, train_arrays.areas_px),
        },
    )
    return TrainingResult(progress.epochs_done, best_epoch, scores, seconds)


def _fit(
    config: TrainingConfig, train_arrays: TruthArrays, val_arrays: TruthArrays, has_state: bool, reporter: Reporter
) -> tuple[Any, Any]:
    """Fit from the start or from the last whole epoch; return the progress and the best checkpoint's model."""
    import keras

    from nuclei_train.batches import ShuffledBatches
    from nuclei_train.resume import Progress, ResumableEarlyStopping, SaveProgress, load_state
    from nuclei_train.unet import build_unet

    recipe, run = config.recipe, config.run
    keras.utils.set_random_seed(recipe.seed)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # Without it sums are made in an order that varies, and a resumed run would only resemble the other.
        tf.config.experimental.enable_op_determinism()

    model = build_unet(recipe.size_px, recipe.size_px, CHANNELS)
    model.compile(
        optimizer=keras.optimizers.Adam(recipe.learning_rate), loss="binary_crossentropy", metrics=["accuracy"]
    )
    progress = load_state(run / STATE_FILE, model) if has_state else Progress()
    if has_state:
        reporter.say(f"going on after epoch {progress.epochs_done}")

    finished = progress.epochs_done >= recipe.epochs or progress.epochs_without_gain >= recipe.patience
    if not finished:
        batches = ShuffledBatches(
            train_arrays.images,
            train_arrays.foreground,
            batch_size=recipe.batch_size,
            seed=recipe.seed,
            first_epoch=progress.epochs_done,
        )
        early_stopping = ResumableEarlyStopping(progress, patience=recipe.patience)
        model.fit(
            batches,
            steps_per_epoch=batches.steps_per_epoch,
            epochs=recipe.epochs,
            initial_epoch=progress.epochs_done,
            validation_data=(val_arrays.images, val_arrays.foreground.astype(np.float32)),
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
                SaveProgress(progress, early_stopping, run / STATE_FILE),
            ],
        )
    best = run / run_folder.BEST_CHECKPOINT
    if not best.is_file():
        raise RunFolderError(f"{best}: missing although the run is finished; train again in a new folder")
    best_model = keras.models.load_model(best)
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


def _draw_predictions(
    config: TrainingConfig, model: Any, name: str, ids: tuple[str, ...], images: Any, foreground: Any
) -> None:
    """Draw random samples of a set; all are predicted because the choice is the figure's."""
    probability = model.predict(images, batch_size=config.recipe.batch_size, verbose=0)
    draw_samples(
        config.run / f"predictions_{name}.png",
        f"{name}: the best checkpoint",
        ids,
        images,
        foreground,
        probability,
        seed=config.recipe.seed,
    )
