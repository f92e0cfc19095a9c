"""The checkpoint whose weights a training starts from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from nuclei_train.errors import RunFolderError
from nuclei_train.run_folder import BEST_CHECKPOINT

if TYPE_CHECKING:
    import keras

    from nuclei_train.recipes.recipe import Recipe


@dataclass(frozen=True)
class Start:
    """The weights that a training starts from.

    Attributes
    ----------
    checkpoint : Path
    digest : str
        SHA-256 of the file, in hexadecimal.
    weights : list of ndarray or None
        In the order of `keras.Model.get_weights`; None where a run is resumed from one of its own epochs.
    """

    checkpoint: Path
    digest: str
    weights: list[NDArray[Any]] | None

    @property
    def skipped_epochs(self) -> int:
        """How much of the endless stream of batches to skip, because the checkpoint's own training began with it.

        The same checkpoint always gives the same number; different checkpoints almost never do.
        """
        return 1 + int(self.digest[:5], 16)


def read_start(path: Path, recipe: Recipe) -> Start:
    """Read the weights of an earlier training's best checkpoint.

    Parameters
    ----------
    path : Path
        A run folder, or a `.keras` or `.h5` file.
    recipe : Recipe
        The checkpoint must be of this recipe's network.

    Raises
    ------
    RunFolderError
        The checkpoint does not exist, cannot be read, or belongs to another network.
    """
    checkpoint = path / BEST_CHECKPOINT if path.is_dir() else path
    if not checkpoint.is_file():
        raise RunFolderError(
            f"{checkpoint}: there is no such checkpoint; name a run folder that contains one, or a .keras or .h5 file"
        )
    network = load_network(checkpoint, "copy it again, or start from another one")
    found, expected = _layout(network), _layout(recipe.build())
    if found != expected:
        where = next((pair for pair in zip(found, expected, strict=False) if pair[0] != pair[1]), None)
        difference = (
            f"{where[0]} where {where[1]} was expected" if where else f"{len(found)} weights instead of {len(expected)}"
        )
        raise RunFolderError(
            f"{checkpoint}: belongs to another network than the one that the recipe {recipe.name} trains; the first "
            f"difference is {difference}; start from {BEST_CHECKPOINT} of a run with the same recipe, architecture and "
            "filters"
        )
    return Start(checkpoint, hashlib.sha256(checkpoint.read_bytes()).hexdigest(), network.get_weights())


def recorded_start(recorded: Mapping[str, Any], recipe: Recipe, *, has_state: bool) -> Start | None:
    """Return the start of a run that is resumed, or None if it began with random weights.

    Parameters
    ----------
    recorded : mapping
        The run's run.json.
    recipe : Recipe
    has_state : bool
        Whether an epoch of the run is kept. The checkpoint itself is then no longer needed and not read.

    Raises
    ------
    RunFolderError
        See `read_start`.
    """
    if "start" not in recorded.get("paths", {}):
        return None
    path = Path(recorded["paths"]["start"])
    return Start(path, recorded["start"]["checkpoint_sha256"], None) if has_state else read_start(path, recipe)


def load_network(checkpoint: Path, remedy: str) -> keras.Model:
    """Load a `.keras` or `.h5` file for its weights.

    Raises
    ------
    RunFolderError
        It cannot be read; the message ends with the remedy.
    """
    import keras

    try:
        return keras.models.load_model(checkpoint, compile=False)
    except Exception as error:  # Keras passes on whatever its zip and HDF5 libraries raise
        raise RunFolderError(f"{checkpoint}: cannot be read ({error}); {remedy}") from error


def _layout(network: keras.Model) -> list[str]:
    """Return each weight's name and shape, in order."""
    return [f"{weight.path} {tuple(weight.shape)}" for weight in network.weights]
