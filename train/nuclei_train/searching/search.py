"""A search: trainings with different settings, one after the other, in a folder that can be resumed.

RUN/study.db      all trials, as Optuna keeps them
RUN/trials.csv    one row per trial
RUN/search.png    their scores, losses and settings
RUN/best/         the run folder of the best trial
RUN/trial/        that of the trial in progress

The settings are chosen by Optuna (Akiba et al. 2019): after some random trials, a tree-structured Parzen estimator
(Bergstra et al. 2011) prefers settings that resemble those of good trials. The first trial has the recipe's own
settings. A trial ends early if its validation loss is worse than the median of the earlier trials at the same epoch.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import optuna
from optuna.trial import TrialState

from nuclei_train import run_folder
from nuclei_train.errors import RunFolderError
from nuclei_train.fitting.preparing import TrainingConfig
from nuclei_train.fitting.reporter import Reporter
from nuclei_train.searching.report import TRIALS_TABLE, SearchedTrial, draw_trials, write_trials
from nuclei_train.searching.space import SPACES, Space
from nuclei_train.searching.study import (
    BEGUN_WITH,
    DONE,
    MINUTES,
    distributions,
    open_study,
    take_up_interrupted,
)
from nuclei_train.searching.trial import run_trial

BEST_FOLDER, TRIAL_FOLDER = "best", "trial"


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes
    ----------
    trials : list of SearchedTrial
        All that are done, in order; the first has the recipe's own settings.
    best : SearchedTrial
    metric : str
        What the score of a trial is.
    """

    trials: list[SearchedTrial]
    best: SearchedTrial
    metric: str


def search(config: TrainingConfig, n_trials: int, reporter: Reporter) -> SearchResult:
    """Train with different settings until `n_trials` trials are done, those of an earlier process included.

    Parameters
    ----------
    config : TrainingConfig
        As for a training with the recipe's own settings; its run folder becomes that of the search.
    n_trials : int
    reporter : Reporter

    Raises
    ------
    RunFolderError
        The folder contains a search although `config.resume` is false, a search of other data or other settings, or
        something else; or no training came to its end.
    NucleiError
        See `nuclei_train.fitting.fit.train`.
    """
    space = SPACES[config.recipe.name]
    own = space.values_of(config.recipe)
    study = open_study(config, space, own)
    begun_with = study.user_attrs[BEGUN_WITH]
    paths = {name: Path(path) for name, path in begun_with["paths"].items()}
    config = replace(
        config,
        start=config.start or paths.get("start"),
        teacher=config.teacher or paths.get("teacher"),
        accept_oddities=config.accept_oddities or begun_with.get("accept_oddities", False),
    )
    folder = config.run / TRIAL_FOLDER
    continues = take_up_interrupted(study) and (folder / run_folder.RUN_FILE).is_file()
    while len(done := study.get_trials(states=DONE)) < n_trials:
        if folder.exists() and not continues:
            shutil.rmtree(folder)
        trial = study.ask(distributions(space, own))
        values = {name: float(value) for name, value in trial.params.items()}
        reporter.say(f"trial {len(done) + 1} of {n_trials}: " + ", ".join(f"{k} {v:.3g}" for k, v in values.items()))
        recipe = space.with_values(config.recipe, values)
        score = run_trial(replace(config, run=folder, recipe=recipe, resume=continues), study, trial, space, reporter)
        continues = False
        _keep_if_best(folder, config.run / BEST_FOLDER, score, study, space)
        study.tell(trial, score, state=TrialState.PRUNED if score is None else TrialState.COMPLETE)
        _report(config.run, study, space)
    trials = _report(config.run, study, space)
    scored = [(one.score, one) for one in trials if one.score is not None]
    if not scored:
        raise RunFolderError(f"{config.run}: no trial was completed; see {config.run / TRIALS_TABLE}")
    _, best = (min if space.is_loss else max)(scored, key=lambda one: one[0])  # of equals the first, which is kept
    return SearchResult(trials, best, space.metric)


def _keep_if_best(folder: Path, best: Path, score: float | None, study: optuna.Study, space: Space) -> None:
    """Make a run folder that of the best trial, or remove it."""
    earlier = [one.value for one in study.get_trials(states=(TrialState.COMPLETE,)) if one.value is not None]
    if score is not None and all(score < one if space.is_loss else score > one for one in earlier):
        if best.exists():
            shutil.rmtree(best)
        folder.rename(best)
    else:
        shutil.rmtree(folder)


def _report(run: Path, study: optuna.Study, space: Space) -> list[SearchedTrial]:
    """Write the table and the figure of all trials that are done, and return the trials."""
    sign = 1 if space.is_loss else -1
    trials = [
        SearchedTrial(
            number,
            one.value if one.state == TrialState.COMPLETE else None,
            {epoch: sign * value for epoch, value in sorted(one.intermediate_values.items())},
            one.user_attrs.get(MINUTES, 0.0),
            {name: float(value) for name, value in one.params.items()},
        )
        for number, one in enumerate(study.get_trials(states=DONE), start=1)
    ]
    write_trials(run, trials, space.metric)
    draw_trials(run, trials, space)
    return trials
