"""What nuclei-train does with --search. Heavy imports are inside the functions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nuclei_runtime.wording import counted

if TYPE_CHECKING:
    from nuclei_train.fitting.preparing import TrainingConfig
    from nuclei_train.fitting.reporter import Reporter


def recorded_search(run: Path) -> dict[str, Any]:
    """Return what the search in a folder began with, as a run.json has it."""
    from nuclei_train.searching.study import recorded_search

    return recorded_search(run)


def run_search(config: TrainingConfig, n_trials: int, reporter: Reporter) -> None:
    """Search, and print what was found."""
    from nuclei_train.searching.report import SEARCH_FIGURE, TRIALS_TABLE
    from nuclei_train.searching.search import BEST_FOLDER, search

    found = search(config, n_trials, reporter)
    own, best = found.trials[0], found.best
    for name, value in best.values.items():
        print(f"{name}: {value:.4g} (the recipe's own: {own.values[name]:.4g})")
    print(
        f"trial {best.number} is the best of {counted(len(found.trials), 'trial')}: {found.metric} {best.score:.4f}"
        + (f", with the recipe's own settings {own.score:.4f}" if own.score is not None else "")
    )
    print("the images that chose it flatter it: score the model on others")
    print(
        f"trials: {config.run / TRIALS_TABLE}, {config.run / SEARCH_FIGURE}; "
        f"next: nuclei-export {config.run / BEST_FOLDER} model.onnx"
    )


def what_is_kept(data: Path, run: Path, n_trials: int) -> str:
    """Return what a search that was stopped keeps, and how to resume it."""
    from nuclei_train.searching.study import n_trials_done

    kept = f"{counted(n_trials_done(run), 'trial')} and the complete epochs of the next are kept in {run}"
    return f"{kept}; to resume: nuclei-train {data} {run} --search {n_trials} --resume"
