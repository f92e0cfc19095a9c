"""All recipes, by the name that `nuclei-train --recipe` takes."""

from __future__ import annotations

from nuclei_train.recipes.baseline import Baseline
from nuclei_train.recipes.native import Native

RECIPES = {recipe.name: recipe for recipe in (Native(), Baseline())}
