"""DATA -> a run folder with a trained network."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from nuclei_runtime.errors import MissingExtraError, NucleiError
from nuclei_runtime.wording import counted
from nuclei_train import run_folder
from nuclei_train.batches.teacher import Teacher
from nuclei_train.data.binary_masks import refuse_binary_masks
from nuclei_train.data.finding import training_set
from nuclei_train.data.opening import open_with_splits
from nuclei_train.data.samples import Dataset
from nuclei_train.data.split import RANDOM_SPLIT_WARNING, START_WARNING, Split, split_samples, write_split_table
from nuclei_train.data.split_table import SPLIT_FILE
from nuclei_train.data.stopping import refuse, stopping_oddities
from nuclei_train.errors import DatasetError, RunFolderError
from nuclei_train.fitting.curves import draw_curves
from nuclei_train.fitting.progress import Progress
from nuclei_train.fitting.reporter import Reporter
from nuclei_train.fitting.run_description import defaults_of, describe_export, describe_paths, describe_run
from nuclei_train.fitting.start import Start, load_network, read_start, recorded_start
from nuclei_train.networks.flops import flops_per_pixel
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
        Resume the run in the folder, if there is one.
    start : Path, optional
        A run folder, or a `.keras` or `.h5` file, whose weights to begin with. Without it a new run begins with random
        weights, and a resumed run with those that it began with.
    teacher : Path, optional
        An exported model whose predictions are learned together with the truth. A resumed run keeps its own.
    accept_oddities : bool
        Train even on data with the oddities `nuclei_train.data.oddities.STOPPING`. A resumed run has accepted them.
    """

    data: Path
    run: Path
    recipe: Recipe
    resume: bool
    start: Path | None = None
    teacher: Path | None = None
    accept_oddities: bool = False


@dataclass(frozen=True)
class TrainingResult:
    """The result of a training.

    Attributes
    ----------
    epochs, best_epoch : int
        Counted from 1.
    scores : dict of str to dict of str to float
        Scores of the best checkpoint, by set and metric.
    seconds : float
        Duration of all epochs, including those before a resume.
    """

    epochs: int
    best_epoch: int
    scores: dict[str, dict[str, float]]
    seconds: float


def train(config: TrainingConfig, reporter: Reporter) -> TrainingResult:
    """Train the recipe's network and write a run folder.

    Raises
    ------
    DatasetError
        DATA is not understood, an image needed for training cannot be used, or there are grave oddities.
    RunFolderError
        The folder contains another run, or a run although `resume` is false; or the checkpoint to start from belongs to
        another network.
    ModelError
        See `nuclei_train.batches.teacher.Teacher`; or the recipe cannot use a teacher.
    """
    recipe = config.recipe
    recorded = run_folder.recorded_run(config.run) if config.resume else {}
    paths = recorded.get("paths", {})
    has_state = bool(recorded) and (config.run / run_folder.STATE_FILE).is_file()
    datasets, table = open_with_splits(config.data, reporter.say)
    dataset = training_set(datasets)
    split = split_samples(dataset, table, recipe.seed, recipe.validation_fraction)
    if split.source == "random":
        reporter.say(RANDOM_SPLIT_WARNING.format(percent=100 * recipe.validation_fraction))
    test = next((d.samples for d in datasets if d.name == TEST_SET), ())
    teacher_path = config.teacher or (Path(paths["teacher"]) if "teacher" in paths else None)
    teacher = Teacher(teacher_path) if teacher_path is not None else None
    sources = recipe.choose(Sources(split, table.modality if table is not None else {}, test, teacher))
    split = sources.split
    refuse_binary_masks((*split.train, *split.val))
    if not recorded:  # a run that is resumed began with the same data
        _check_oddities(config, dataset, split, reporter)
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
    if split.source == "random" and start is not None:
        reporter.say(START_WARNING)
    identity = describe_run(recipe, dataset, split, start, teacher)
    run_folder.prepare(config.run, identity, defaults_of(recipe), resume=config.resume)
    description = {
        **identity,
        **describe_paths(start.checkpoint if start is not None else None, teacher_path),
        "versions": run_folder.versions(),
    }
    run_folder.write_run(config.run, {"status": "running", **description})

    started = time.perf_counter()
    try:
        material = _load(dataset.path, sources, recipe, reporter)
    except NucleiError:
        if not recorded:  # so that the same command works as soon as the data are fixed
            run_folder.discard_run(config.run)
        raise
    loading_seconds = time.perf_counter() - started
    if split.source == "random":
        write_split_table(config.run / SPLIT_FILE, split)
    material.draw(config.run / "sanity_check.png")

    progress, best = _fit(config, material, start, has_state=has_state, reporter=reporter)

    best_epoch = 1 + int(np.argmin([row["val_loss"] for row in progress.history]))
    run_folder.write_history(config.run, progress.history)
    draw_curves(config.run / "curves.png", progress.history, best_epoch)
    trained = recipe.finish(best, material, config.run)
    seconds = math.fsum(row["seconds"] for row in progress.history)
    run_folder.write_run(
        config.run,
        {
            "status": "complete",
            **description,
            "parameters": int(best.count_params()),
            "precision": best.dtype_policy.name,
            "kflop_per_pixel": round(flops_per_pixel(best) / 1e3, 1),
            "epochs": progress.epochs_done,
            "best_epoch": best_epoch,
            "scores": trained.scores,
            "search": trained.search,
            "seconds": {"loading": round(loading_seconds, 1), "epochs": round(seconds, 1)},
            "export": describe_export(trained, description),
        },
    )
    return TrainingResult(progress.epochs_done, best_epoch, trained.scores, seconds)


def _check_oddities(config: TrainingConfig, dataset: Dataset, split: Split, reporter: Reporter) -> None:
    """Stop at grave oddities, or mention them if the user has accepted them."""
    samples = (*split.train, *split.val)
    with reporter.checking(len(samples)) as advance:
        stopping = stopping_oddities(dataset, samples, advance)
    if not config.accept_oddities:
        refuse(str(dataset.path), stopping)
    for sentence in stopping:
        reporter.say(f"accepted: {sentence}")


def _load(data: Path, sources: Sources, recipe: Recipe, reporter: Reporter) -> Material:
    """Read the images."""
    with reporter.loading(len(sources)) as advance:
        material: Material = recipe.load(sources, advance)
    if not material.areas_px.size:
        n_train = len(sources.split.train)
        raise DatasetError(f"{data}: the masks of all {n_train} images to fit contain no nucleus; check the masks")
    return material


def _fit(
    config: TrainingConfig, material: Material, start: Start | None, *, has_state: bool, reporter: Reporter
) -> tuple[Progress, Any]:
    """Fit from the start or from the last complete epoch; return the progress and the best checkpoint's model."""
    import keras

    from nuclei_train.fitting.resume import ResumableEarlyStopping, SaveProgress, load_state
    from nuclei_train.fitting.stopping import StopBetweenBatches

    recipe, run = config.recipe, config.run
    keras.utils.set_random_seed(recipe.seed)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # Otherwise the order of summation varies, and a resumed run would not equal an uninterrupted one.
        tf.config.experimental.enable_op_determinism()

    model = recipe.build()
    progress = load_state(run / run_folder.STATE_FILE, model) if has_state else Progress()
    if has_state:
        reporter.say(f"resuming after epoch {progress.epochs_done}")
    elif start is not None:
        model.set_weights(start.weights)
        reporter.say(f"starting from the weights of {start.checkpoint}")

    finished = progress.epochs_done >= recipe.epochs or progress.epochs_without_gain >= recipe.patience
    if not finished:
        early_stopping = ResumableEarlyStopping(progress, patience=recipe.patience)
        skipped_epochs = start.skipped_epochs if start is not None else 0
        with reporter.fitting() as stop_requested:
            model.fit(
                material.batches(progress.epochs_done, skipped_epochs),
                steps_per_epoch=material.steps_per_epoch,
                epochs=recipe.epochs,
                initial_epoch=progress.epochs_done,
                validation_data=material.validation,
                validation_batch_size=recipe.batch_size,
                shuffle=False,  # the batches are already shuffled
                verbose=1 if sys.stdout.isatty() else 2,  # a bar, or one line per epoch
                callbacks=[
                    keras.callbacks.ModelCheckpoint(
                        run / run_folder.BEST_CHECKPOINT,
                        monitor="val_loss",
                        mode="min",
                        save_best_only=True,
                        initial_value_threshold=progress.best_val_loss,
                    ),
                    *_tensorboard(run, reporter),
                    StopBetweenBatches(stop_requested),
                    early_stopping,
                    SaveProgress(progress, early_stopping, run / run_folder.STATE_FILE),
                    keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: reporter.epoch(progress.history[-1])),
                ],
            )
    best = run / run_folder.BEST_CHECKPOINT
    if not best.is_file():
        raise RunFolderError(f"{best}: missing, although the run is finished; train again in a new folder")
    weights = load_network(best, "train again in a new folder").get_weights()
    # Built again, because a checkpoint does not contain the recipe's loss.
    best_model = recipe.build()
    best_model.set_weights(weights)
    # Only now, and from the checkpoint: saving a model as .h5 makes Keras forget its optimiser, and every later
    # best.keras of a running training would lack it.
    best_model.save(run / run_folder.BEST_CHECKPOINT_H5)
    return progress, best_model


def _tensorboard(run: Path, reporter: Reporter) -> list[Any]:
    """Return the callback that writes TensorBoard logs, if TensorFlow is installed."""
    import keras

    if find_spec("tensorflow") is None:
        reporter.say("TensorFlow is not installed, so no TensorBoard logs are written")
        return []
    if find_spec("tensorboard") is None:
        raise MissingExtraError("tensorboard", "train")
    return [keras.callbacks.TensorBoard(run / run_folder.TENSORBOARD_FOLDER)]
