"""A few images and a trained model -> a run folder with a model that is better on such images, or a plain no."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from nuclei_runtime.steps.flags import FlagLimits
from nuclei_runtime.steps.novelty import Appearance
from nuclei_runtime.wording import counted
from nuclei_train import run_folder
from nuclei_train.errors import RunFolderError
from nuclei_train.fine_tuning.held_out import HeldOut, RoundScores, join_rounds, read_round
from nuclei_train.fine_tuning.outcome import Outcome
from nuclei_train.fine_tuning.report import write_report
from nuclei_train.fitting.preparing import Prepared, TrainingConfig, load, prepare
from nuclei_train.fitting.reporter import Reporter
from nuclei_train.fitting.run_description import describe_export
from nuclei_train.fitting.start import BUNDLED, Start, card_of, read_card, recorded_path
from nuclei_train.recipes.fine_tuning import FineTuning, FineTuningMaterial
from nuclei_train.recipes.model_description import describe_training
from nuclei_train.recipes.native import INFERENCE_CHECKPOINT, QUANTISATION_FILE
from nuclei_train.recipes.novelty_fit import including
from nuclei_train.recipes.recipe import TrainedModel

ROUNDS_FOLDER = "rounds"

IN_TURN = (
    "There is no splits.csv next to the data and no folder val, so each image is held out in turn. Images of one "
    "microscope field, slide or patient must be on the same side, or the scores are too good: for such images, give a "
    "table splits.csv with the columns image_id, split and modality."
)


@dataclass(frozen=True)
class FineTuningResult:
    """The result of a fine-tuning.

    Attributes
    ----------
    outcome : Outcome
    seconds : float
        Since this command began.
    """

    outcome: Outcome
    seconds: float


def fine_tune(config: TrainingConfig, reporter: Reporter) -> FineTuningResult:
    """Adapt a trained network to a few images, and write a run folder with a report that says whether it helped.

    The images are held out in turn, or those that the user says are. The number of epochs that is best for the
    held-out images, which may be 0, is then fitted to all images that may be fitted. A fine-tuning therefore never
    gives a model that is worse on the held-out images than the start. The model card keeps the start's parameters of
    instance segmentation and of views, because a few images cannot choose them.

    Parameters
    ----------
    config : TrainingConfig
        With a start, and the recipe `FineTuning`.
    reporter : Reporter

    Raises
    ------
    DatasetError, RunFolderError, ModelError
        See `nuclei_train.fitting.fit.train`.
    """
    began = time.perf_counter()
    # Before there is a run folder: with the right start, the same command works.
    path = config.start or recorded_path(run_folder.recorded_run(config.run) if config.resume else {})
    if path is None:
        raise RunFolderError(f"{config.run}: a fine-tuning needs weights to begin with; add --start {BUNDLED}")
    described = read_card(path)
    prepared = prepare(config, reporter, IN_TURN)
    start = prepared.start
    assert start is not None
    material: FineTuningMaterial = load(prepared, reporter)
    material.draw(config.run / "sanity_check.png")
    reporter.say(f"starting from the weights of {start.name}")

    tuning = _FineTuning(prepared, start, described, material, reporter)
    with reporter.fitting() as stop_requested:
        held_out = tuning.hold_out(stop_requested)
        outcome = tuning.finish(held_out, stop_requested)
    write_report(config.run, outcome)
    seconds = time.perf_counter() - began
    trained = tuning.describe(outcome)
    run_folder.write_run(
        config.run,
        {
            "status": "complete",
            **prepared.description,
            "epochs": outcome.epochs,
            "scores": trained.scores,
            "fine_tuning": outcome.to_dict(),
            "seconds": round(seconds, 1),
            "export": {
                **describe_export(trained, prepared.description),
                "caveats": list(outcome.caveats),
            },
        },
    )
    return FineTuningResult(outcome, seconds)


def rounds_done(run: Path) -> int:
    """Return how many rounds of an interrupted run are kept."""
    return len(list((run / ROUNDS_FOLDER).glob("*.json")))


class _FineTuning:
    """What the steps of one fine-tuning share."""

    def __init__(
        self,
        prepared: Prepared,
        start: Start,
        described: dict[str, Any],
        material: FineTuningMaterial,
        reporter: Reporter,
    ) -> None:
        from nuclei_train.fine_tuning.tuner import Tuner

        assert isinstance(prepared.config.recipe, FineTuning)
        assert start.weights is not None
        self._recipe, self._run = prepared.config.recipe, prepared.config.run
        self._start, self._described = start, described
        self._start_card = card_of(described)
        self._tuned_card = card_of(describe_tuned(described, material))
        self._material, self._reporter = material, reporter
        self._tuner = Tuner(self._recipe, start.weights)

    def hold_out(self, stop_requested: Callable[[], bool]) -> HeldOut:
        """Fit and score all rounds, apart from those of an earlier, interrupted command."""
        folder = self._run / ROUNDS_FOLDER
        folder.mkdir(exist_ok=True)
        rounds = self._material.rounds
        found = []
        for number, one in enumerate(rounds, 1):
            path = folder / f"{number}.json"
            if not path.is_file():
                self._reporter.say(
                    f"round {number} of {len(rounds)}: {counted(len(one.fitted), 'image')} to fit, "
                    f"{len(one.held_out)} held out"
                )
                self._fit_round(one.fitted, one.held_out, stop_requested).write(path)
            found.append(read_round(path))
        return join_rounds([one.held_out for one in rounds], found)

    def _fit_round(
        self, fitted: tuple[int, ...], held_out: tuple[int, ...], stop_requested: Callable[[], bool]
    ) -> RoundScores:
        tuner, material = self._tuner, self._material
        began = time.perf_counter()
        samples, images = [material.samples[place] for place in held_out], material.images.select(held_out)
        tuner.reset()
        scores, losses = [tuple(tuner.score(samples, images, self._start_card))], []

        def score(loss: float) -> None:
            scores.append(tuple(tuner.score(samples, images, self._tuned_card)))
            losses.append(loss)

        batches = material.batches(fitted, self._start.skipped_epochs)
        tuner.fit(batches, self._recipe.epochs, stop_requested, score)
        return RoundScores(tuple(scores), tuple(losses), time.perf_counter() - began)

    def finish(self, held_out: HeldOut, stop_requested: Callable[[], bool]) -> Outcome:
        """Fit the final weights and see what was forgotten; write the checkpoints."""
        tuner, material = self._tuner, self._material
        ids = tuple(material.images.ids[place] for place in held_out.places)
        outcome = Outcome(self._start.name, ids, held_out, len(material.rounds))
        tuner.reset()
        original = material.original
        samples = material.original_samples
        before = tuple(tuner.score(samples, original, self._start_card)) if original is not None else ()
        if outcome.epochs:
            self._reporter.say(
                f"final fit of {counted(outcome.epochs, 'epoch')} to {counted(material.n_to_fit, 'image')}"
            )
            batches = material.batches(material.to_fit, self._start.skipped_epochs)
            tuner.fit(batches, outcome.epochs, stop_requested)
        tuner.model.save(self._run / run_folder.BEST_CHECKPOINT)
        tuner.inference.save(self._run / INFERENCE_CHECKPOINT)
        if original is None:
            return outcome
        after = tuple(tuner.score(samples, original, self._tuned_card)) if outcome.epochs else before
        return replace(outcome, original_ids=original.ids, original_before=before, original_after=after)

    def describe(self, outcome: Outcome) -> TrainedModel:
        """Describe the model for an export: by the start's card, except for what this training knows better."""
        material = self._material
        described = self._described
        if outcome.epochs:
            n_images = counted(material.n_to_fit, "image")
            described = {
                **describe_tuned(described, material),
                "description": f"{described['description']} Fine-tuned to {n_images}.",
                **describe_flags(card_of(described).flags, material.as_native().appearances),
            }
        card = {**described, "limitations": [*described["limitations"], outcome.limitation]}
        quantisation = material.save_for_quantisation(self._run / QUANTISATION_FILE)
        scores = {
            name: {"mean AP": value} for name, value in (("before", outcome.own.before), ("after", outcome.own.after))
        }
        return TrainedModel(INFERENCE_CHECKPOINT, card, scores, [], quantisation)


def describe_tuned(described: dict[str, Any], material: FineTuningMaterial) -> dict[str, Any]:
    """Return the card of a start after a fit: the size of nuclei that the network knows is that of the user's own.

    The choice of views depends on this size, so what was fitted is scored with it, as it is exported.
    """
    return {**described, **describe_training(material.areas_px)}


def describe_flags(limits: FlagLimits | None, appearances: Sequence[Appearance]) -> dict[str, Any]:
    """Return the card's ``flags`` after a fit: what was fitted is familiar now. Empty if there is nothing to change."""
    if limits is None or not appearances:
        return {}
    return {"flags": asdict(replace(limits, familiar=including(limits.familiar, appearances)))}
