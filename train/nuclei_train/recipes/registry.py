"""All recipes, by the name that `nuclei-train --recipe` takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nuclei_train.errors import RunFolderError
from nuclei_train.recipes.baseline import Baseline
from nuclei_train.recipes.fine_tuning import FineTuning
from nuclei_train.recipes.native import Native
from nuclei_train.run_folder import difference

DEFAULT = Native()
WIDE = Native(name="native-wide", filters=48)  # four times the compute
DEFAULT_WITH_START = FineTuning()
RECIPES: dict[str, Native | Baseline] = {
    recipe.name: recipe for recipe in (DEFAULT, WIDE, Baseline(), DEFAULT_WITH_START)
}


def choose_recipe(
    name: str | None,
    epochs: int | None,
    learning_rate: float | None,
    recorded: Mapping[str, Any],
    *,
    has_start: bool = False,
) -> Native | Baseline:
    """Return the recipe that a command asks for; a run that is resumed keeps the settings that are not asked for.

    Parameters
    ----------
    name : str or None
    epochs : int or None
    learning_rate : float or None
        Default: the recipe's.
    recorded : mapping
        run.json of the run that is resumed; empty for a new run.
    has_start : bool
        Whether the training begins with the weights of another.

    Raises
    ------
    RunFolderError
        The run is of another recipe, or of one that this version does not have.
    """
    settings = recorded.get("recipe", {})
    found = settings.get("name")
    if found not in (None, *RECIPES) or (found is not None and name not in (None, found)):
        raise RunFolderError(
            f"cannot resume this run, because it differs from this command in {difference('recipe.name', found, name)};"
            f" expected one of {', '.join(RECIPES)}, and the same as before"
        )
    default = DEFAULT_WITH_START if has_start else DEFAULT
    recipe = RECIPES[name or found or default.name]
    return replace(
        recipe,
        epochs=epochs or settings.get("epochs", recipe.epochs),
        learning_rate=learning_rate or settings.get("learning_rate", recipe.learning_rate),
    )
