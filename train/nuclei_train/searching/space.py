"""Which settings of each recipe are searched, in which ranges, and which score decides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

from nuclei_train.recipes.baseline import Baseline
from nuclei_train.recipes.native import Native

Values = Mapping[str, float]
"""Settings by name."""


@dataclass(frozen=True)
class Range:
    """The values of a setting to choose from.

    Attributes
    ----------
    low, high : float
    is_log : bool
        Whether its logarithm is drawn evenly.
    is_whole : bool
        Whether it is a whole number.
    """

    low: float
    high: float
    is_log: bool = False
    is_whole: bool = False


class Space(Protocol):
    """What is searched of a recipe."""

    ranges: ClassVar[Mapping[str, Range]]
    """By the name of the setting, as in the tables."""

    metric: ClassVar[str]
    """The score on the validation images that decides: a key of ``scores["val"]`` in run.json."""

    is_loss: ClassVar[bool]
    """Whether less of it is better."""

    def values_of(self, recipe: Any) -> dict[str, float]:
        """Return the values that a recipe has."""

    def with_values(self, recipe: Any, values: Values) -> Any:
        """Return the recipe with other values."""


class NativeSpace:
    """For the recipes `native` and `native-wide`: how fast the network learns, and how strongly it is regularised and
    crops are changed.

    The parts of the loss are left out, because with others, the validation losses of trials could not be compared; what
    each of them brings has been measured (benchmarks/results/ablations.md). So are settings that change how long a step
    takes, because then some trials would get more computing time than others.
    """

    ranges: ClassVar[Mapping[str, Range]] = {
        "learning_rate": Range(2e-4, 8e-3, is_log=True),
        "weight_decay": Range(1e-5, 1e-1, is_log=True),
        "smallest_scale": Range(0.5, 1.0),
        "largest_scale": Range(1.0, 2.5),
        "appearance_share": Range(0.0, 1.0),
        "eased_share": Range(0.0, 0.6),
    }
    metric: ClassVar[str] = "mean AP"
    is_loss: ClassVar[bool] = False

    def values_of(self, recipe: Native) -> dict[str, float]:
        """Return the values that a recipe has."""
        smallest, largest = recipe.augmentation.scale
        return {
            "learning_rate": recipe.learning_rate,
            "weight_decay": recipe.weight_decay,
            "smallest_scale": smallest,
            "largest_scale": largest,
            "appearance_share": recipe.augmentation.appearance_share,
            "eased_share": recipe.eased_share,
        }

    def with_values(self, recipe: Native, values: Values) -> Native:
        """Return the recipe with other values."""
        augmentation = replace(
            recipe.augmentation,
            scale=(values["smallest_scale"], values["largest_scale"]),
            appearance_share=values["appearance_share"],
        )
        return replace(
            recipe,
            learning_rate=values["learning_rate"],
            weight_decay=values["weight_decay"],
            augmentation=augmentation,
            eased_share=values["eased_share"],
        )


class BaselineSpace:
    """For the recipe `baseline`."""

    ranges: ClassVar[Mapping[str, Range]] = {
        "learning_rate": Range(1e-4, 1e-2, is_log=True),
        "batch_size": Range(4, 64, is_log=True, is_whole=True),
    }
    metric: ClassVar[str] = "loss"
    is_loss: ClassVar[bool] = True

    def values_of(self, recipe: Baseline) -> dict[str, float]:
        """Return the values that a recipe has."""
        return {"learning_rate": recipe.learning_rate, "batch_size": recipe.batch_size}

    def with_values(self, recipe: Baseline, values: Values) -> Baseline:
        """Return the recipe with other values."""
        return replace(recipe, learning_rate=values["learning_rate"], batch_size=int(values["batch_size"]))


SPACES: dict[str, Space] = {"native": NativeSpace(), "native-wide": NativeSpace(), "baseline": BaselineSpace()}
"""By the name of the recipe."""
