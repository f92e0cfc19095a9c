"""The study of a search, in which Optuna keeps all trials: begun, resumed, and checked to be of the same search."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from nuclei_runtime.json_fields import flat
from nuclei_train import run_folder
from nuclei_train.errors import RunFolderError
from nuclei_train.fitting.preparing import TrainingConfig
from nuclei_train.fitting.run_description import resumable_paths
from nuclei_train.searching.space import Space

STUDY_FILE = "study.db"

RANDOM_TRIALS = 5
"""Trials before the estimator chooses, and before any trial ends early."""

WARMUP_SHARE = 0.2
"""Share of the epochs after which a trial may end early: the learning rate rises first."""

BEGUN_WITH, DATA, MINUTES, EPOCHS = "begun with", "data", "minutes", "epochs"
"""Attributes of the study and of its trials."""

DONE = (TrialState.COMPLETE, TrialState.PRUNED)

_STUDY = "nuclei-train"


def recorded_search(run: Path) -> dict[str, Any]:
    """Return what a search began with, as a run.json has it: ``recipe`` and ``paths``; empty if there is no search."""
    if not (run / STUDY_FILE).is_file():
        return {}
    found: dict[str, Any] = _load_study(run).user_attrs.get(BEGUN_WITH, {})
    return found


def n_trials_done(run: Path) -> int:
    """Return how many trials of a search are done."""
    return len(_load_study(run).get_trials(states=DONE)) if (run / STUDY_FILE).is_file() else 0


def _load_study(run: Path, **options: Any) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(study_name=_STUDY, storage=_storage(run), load_if_exists=True, **options)


def _storage(run: Path) -> str:
    return f"sqlite:///{(run / STUDY_FILE).as_posix()}"


def open_study(config: TrainingConfig, space: Space, own: Mapping[str, float]) -> optuna.Study:
    """Begin a search, or check that the one in the folder can be resumed.

    Raises
    ------
    RunFolderError
        See `search`.
    """
    run = config.run
    begun_with = {
        "recipe": asdict(config.recipe),  # type: ignore[call-overload]  # each recipe is a dataclass
        "paths": resumable_paths({"start": config.start, "teacher": config.teacher}),
        "accept_oddities": config.accept_oddities,
    }
    exists = (run / STUDY_FILE).is_file()
    if not exists and run.exists() and (not run.is_dir() or any(run.iterdir())):
        raise RunFolderError(f"{run}: not empty and no search; choose a new folder")
    run.mkdir(parents=True, exist_ok=True)
    trials = _load_study(run).trials if exists else []
    if exists and not any(one.intermediate_values for one in trials):
        # So that the same command works as soon as what ended it before the first epoch is mended.
        optuna.delete_study(study_name=_STUDY, storage=_storage(run))
        trials = []
    if trials and not config.resume:
        raise RunFolderError(f"{run}: already contains a search; add --resume to continue it, or choose a new folder")
    study = _load_study(
        run,
        direction="minimize" if space.is_loss else "maximize",
        # Not the same random numbers again after a resume.
        sampler=optuna.samplers.TPESampler(seed=config.recipe.seed + len(trials), n_startup_trials=RANDOM_TRIALS),
        pruner=optuna.pruners.MedianPruner(
            n_startup_trials=RANDOM_TRIALS - 1, n_warmup_steps=1 + round(config.recipe.epochs * WARMUP_SHARE)
        ),
    )
    recorded = study.user_attrs.get(BEGUN_WITH)
    if recorded is None:
        study.set_user_attr(BEGUN_WITH, begun_with)
        study.enqueue_trial(dict(own))
    else:
        refuse_other(run, "recipe", recorded["recipe"], begun_with["recipe"])
    return study


def take_up_interrupted(study: optuna.Study) -> bool:
    """Let the trial that an earlier process did not finish come first, if there is one."""
    running = study.get_trials(states=(TrialState.RUNNING,))
    for one in running:
        study.tell(one.number, state=TrialState.FAIL)
        study.enqueue_trial(one.params)
    return bool(running)


def distributions(space: Space, own: Mapping[str, float]) -> dict[str, BaseDistribution]:
    """Return the ranges as Optuna takes them, widened to the recipe's own values."""
    found: dict[str, BaseDistribution] = {}
    for name, one in space.ranges.items():
        low, high = min(one.low, own[name]), max(one.high, own[name])
        found[name] = (
            IntDistribution(int(low), int(high), log=one.is_log)
            if one.is_whole
            else FloatDistribution(low, high, log=one.is_log)
        )
    return found


def refuse_other(run: Path, what: str, recorded: Any, asked: Any) -> None:
    """Raise a RunFolderError that names in what a search and a command differ, if they do."""
    there, here = flat({what: recorded}), flat({what: json.loads(json.dumps(asked))})
    differing = [
        run_folder.difference(name, there.get(name), here.get(name))
        for name in {**there, **here}
        if there.get(name) != here.get(name)
    ]
    if differing:
        raise RunFolderError(
            f"{run}: cannot resume this search, because it differs from this command in {', '.join(differing)}; use "
            "the data and the options that it was started with, or choose a new folder"
        )
