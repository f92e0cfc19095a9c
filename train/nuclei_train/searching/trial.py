"""One trial of a search: a training that is noted epoch by epoch, and ended early if it does not promise anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import keras
import optuna

from nuclei_train import run_folder
from nuclei_train.errors import DivergedError
from nuclei_train.fitting.fit import train
from nuclei_train.fitting.preparing import TrainingConfig
from nuclei_train.fitting.progress import read_progress
from nuclei_train.fitting.reporter import Reporter
from nuclei_train.searching.space import Space
from nuclei_train.searching.study import DATA, EPOCHS, MINUTES, refuse_other

_DATA_FIELDS = ("backend", "data", "data_digests", "start", "teacher")
"""The fields of run.json that must be the same in all trials, apart from the recipe."""


def run_trial(
    config: TrainingConfig, study: optuna.Study, trial: optuna.Trial, space: Space, reporter: Reporter
) -> float | None:
    """Train, and return the score; None if the training was ended early."""
    following = TrialReporter(reporter, config.run, study, trial, space)
    if config.resume:
        for row in read_progress(config.run / run_folder.STATE_FILE).history:
            following.note(row)
    keras.utils.clear_session()
    try:
        result = train(config, following)
    except optuna.TrialPruned:
        reporter.say(f"ended after epoch {trial.user_attrs[EPOCHS]}: worse than the median of the earlier trials")
        return None
    except DivergedError:
        reporter.say("ended, because its loss is no longer a number")
        return None
    score = result.scores["val"][space.metric]
    reporter.say(f"{space.metric} {score:.4f}")
    return score


class TrialReporter(Reporter):
    """Passes everything on, notes each epoch in the study, and ends a training that does not promise anything.

    Parameters
    ----------
    reporter : Reporter
    run : Path
        The run folder of the trial.
    study : Study
    trial : Trial
    space : Space
    """

    def __init__(self, reporter: Reporter, run: Path, study: optuna.Study, trial: optuna.Trial, space: Space) -> None:
        self._reporter, self._run, self._study, self._trial = reporter, run, study, trial
        self._sign = 1 if space.is_loss else -1
        self._minutes = 0.0

    def say(self, sentence: str) -> None:
        """Pass a sentence on."""
        self._reporter.say(sentence)

    @contextmanager
    def checking(self, total: int) -> Iterator[Callable[[], None]]:
        """Surround the inspection of the masks."""
        with self._reporter.checking(total) as advance:
            yield advance

    @contextmanager
    def loading(self, total: int) -> Iterator[Callable[[], None]]:
        """Surround the reading of the images."""
        with self._reporter.loading(total) as advance:
            yield advance

    @contextmanager
    def fitting(self) -> Iterator[Callable[[], bool]]:
        """Refuse other data than those of the earlier trials, and surround the epochs."""
        self._check_data()
        with self._reporter.fitting() as stop_requested:
            yield stop_requested

    def epoch(self, row: Mapping[str, float]) -> None:
        """Note an epoch, and end the training if it is worse than the median of the earlier trials."""
        self.note(row)
        if self._trial.should_prune():
            raise optuna.TrialPruned

    def note(self, row: Mapping[str, float]) -> None:
        """Note an epoch in the study."""
        self._minutes += row["seconds"] / 60
        self._trial.set_user_attr(EPOCHS, int(row["epoch"]))
        self._trial.set_user_attr(MINUTES, round(self._minutes, 2))
        self._trial.report(self._sign * row["val_loss"], int(row["epoch"]))

    def _check_data(self) -> None:
        """Refuse other data than those of the earlier trials."""
        run = run_folder.read_run(self._run)
        found = {name: run[name] for name in _DATA_FIELDS if name in run}
        recorded = self._study.user_attrs.get(DATA)
        if recorded is None:
            self._study.set_user_attr(DATA, found)
        else:
            # A search of an earlier version does not mention `data`.
            refuse_other(self._run.parent, "data", {"data": found["data"], **recorded}, found)
