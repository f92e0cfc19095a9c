"""A checkpoint whose weights another training begins with."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from nuclei_train.errors import RunFolderError
from nuclei_train.run_folder import BEST_CHECKPOINT, RUN_FILE, read_run

if TYPE_CHECKING:
    import keras

    from nuclei_train.recipes.recipe import Recipe


@dataclass(frozen=True)
class Start:
    """Where a training begins.

    Attributes
    ----------
    checkpoint : Path
    digest : str
        SHA-256 of the file, in hexadecimal.
    weights : list of ndarray or None
        In the order of `keras.Model.get_weights`; None where a run that has begun so is to go on.
    """

    checkpoint: Path
    digest: str
    weights: list[NDArray[Any]] | None

    @property
    def skipped_epochs(self) -> int:
        """How much of the endless stream of batches to skip: the checkpoint's own training began with it.

        The same checkpoint gives the same number; two of them hardly ever do.
        """
        return 1 + int(self.digest[:5], 16)


def read_start(path: Path, recipe: Recipe) -> Start:
    """Read the weights of an earlier training's best checkpoint.

    Parameters
    ----------
    path : Path
        A run folder, or a `.keras` or `.h5` file.
    recipe : Recipe
        Whose network must be the checkpoint's.

    Raises
    ------
    RunFolderError
        There is no checkpoint, it cannot be read, or it is of another network.
    """
    checkpoint = path / BEST_CHECKPOINT if path.is_dir() else path
    if not checkpoint.is_file():
        raise RunFolderError(
            f"{checkpoint}: there is no such checkpoint; name the folder of a run that has one, or a .keras or .h5 file"
        )
    network = load_network(checkpoint, "copy it anew, or start from another")
    found, expected = _layout(network), _layout(recipe.build())
    if found != expected:
        where = next((pair for pair in zip(found, expected, strict=False) if pair[0] != pair[1]), None)
        difference = (
            f"{where[0]} where {where[1]} was expected" if where else f"{len(found)} weights instead of {len(expected)}"
        )
        raise RunFolderError(
            f"{checkpoint}: is of another network than the recipe {recipe.name} trains, first in {difference}; "
            f"start from {BEST_CHECKPOINT} of a run of the same recipe, architecture and filters"
        )
    return Start(checkpoint, hashlib.sha256(checkpoint.read_bytes()).hexdigest(), network.get_weights())


def recorded_start(run: Path) -> Start | None:
    """Return what the run in a folder has begun with, None where it began anew or there is none.

    Raises
    ------
    RunFolderError
        run.json cannot be read.
    """
    if not (run / RUN_FILE).is_file():
        return None
    start = read_run(run).get("start")
    return Start(run, str(start["checkpoint_sha256"]), None) if isinstance(start, dict) else None


def load_network(checkpoint: Path, remedy: str) -> keras.Model:
    """Load a `.keras` file to take its weights.

    Raises
    ------
    RunFolderError
        It cannot be read; the message ends with the remedy.
    """
    import keras

    try:
        return keras.models.load_model(checkpoint, compile=False)
    except Exception as error:  # Keras hands on whatever its zip and HDF5 libraries raise
        raise RunFolderError(f"{checkpoint}: cannot be read ({error}); {remedy}") from error


def _layout(network: keras.Model) -> list[str]:
    """Return each weight's name and shape, in order."""
    return [f"{weight.path} {tuple(weight.shape)}" for weight in network.weights]
