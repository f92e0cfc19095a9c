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

from nuclei_runtime.errors import MissingExtraError
from nuclei_train import run_folder
from nuclei_train.data.split import RANDOM_SPLIT_WARNING
from nuclei_train.errors import RunFolderError
from nuclei_train.fitting.curves import draw_curves
from nuclei_train.fitting.preparing import TrainingConfig, load, prepare
from nuclei_train.fitting.progress import Progress
from nuclei_train.fitting.reporter import Reporter
from nuclei_train.fitting.run_description import describe_export
from nuclei_train.fitting.start import Start, load_network
from nuclei_train.networks.flops import flops_per_pixel
from nuclei_train.recipes.recipe import Material


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
    DivergedError
        The loss is no longer a number.
    """
    if_random = RANDOM_SPLIT_WARNING.format(percent=100 * config.recipe.validation_fraction)
    prepared = prepare(config, reporter, if_random)
    recipe, start, description = prepared.config.recipe, prepared.start, prepared.description
    started = time.perf_counter()
    material: Material = load(prepared, reporter)
    loading_seconds = time.perf_counter() - started
    material.draw(config.run / "sanity_check.png")

    progress, best = _fit(config, material, start, has_state=prepared.has_state, reporter=reporter)

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


def _fit(
    config: TrainingConfig, material: Material, start: Start | None, *, has_state: bool, reporter: Reporter
) -> tuple[Progress, Any]:
    """Fit from the start or from the last complete epoch; return the progress and the best checkpoint's model."""
    import keras

    from nuclei_train.fitting.determinism import make_deterministic
    from nuclei_train.fitting.resume import ResumableEarlyStopping, SaveProgress, load_state
    from nuclei_train.fitting.stopping import EndIfDiverged, StopBetweenBatches

    recipe, run = config.recipe, config.run
    make_deterministic(recipe.seed)
    model = recipe.build()
    progress = load_state(run / run_folder.STATE_FILE, model) if has_state else Progress()
    if has_state:
        reporter.say(f"resuming after epoch {progress.epochs_done}")
    elif start is not None:
        model.set_weights(start.weights)
        reporter.say(f"starting from the weights of {start.name}")

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
                    EndIfDiverged(recipe.learning_rate),
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
