"""The checkpoint whose weights a training starts from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from nuclei_runtime.model.card import SCHEMA_VERSION, ModelCard, parse_card
from nuclei_runtime.model.session import load_session
from nuclei_train.errors import RunFolderError
from nuclei_train.networks.widening import widen
from nuclei_train.run_folder import BEST_CHECKPOINT, BEST_CHECKPOINT_H5, read_run

if TYPE_CHECKING:
    import keras

    from nuclei_train.recipes.recipe import Recipe


EXPORTED_FIELDS = ("schema_version", "name", "version", "license", "evaluation", "provenance")
"""The fields of a model card that an export writes anew."""

BUNDLED = Path("bundled")
"""What stands for the weights of the bundled model. A folder of that name needs its absolute path."""

BUNDLED_CHECKPOINT = Path(__file__).parents[1] / "models" / BEST_CHECKPOINT_H5
"""Of the bundled model: the same weights as in `nuclei_runtime.model.bundled.BUNDLED_MODEL`, with all of the head."""


@dataclass(frozen=True)
class Start:
    """The weights that a training starts from.

    Attributes
    ----------
    path : Path
        As it was given: `BUNDLED`, a run folder or a checkpoint.
    digest : str
        SHA-256 of the file, in hexadecimal.
    weights : list of ndarray or None
        In the order of `keras.Model.get_weights`; None where a run is resumed from one of its own epochs.
    """

    path: Path
    digest: str
    weights: list[NDArray[Any]] | None

    @property
    def checkpoint(self) -> Path:
        """The file."""
        return checkpoint_of(self.path)

    @property
    def name(self) -> str:
        """For messages."""
        return "the bundled model" if self.path == BUNDLED else str(self.checkpoint)

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
        `BUNDLED`, a run folder, or a `.keras` or `.h5` file.
    recipe : Recipe
        The checkpoint must be of this recipe's network.

    Raises
    ------
    RunFolderError
        The checkpoint does not exist, cannot be read, or belongs to another network.
    """
    import keras

    checkpoint = _existing_checkpoint(path)
    network = load_network(checkpoint, "copy it again, or start from another one")
    keras.utils.set_random_seed(recipe.seed)  # a wider network keeps some of the weights that it is built with
    expected_network = recipe.build()
    weights = widen(network, expected_network)
    if weights is None:
        found, expected = _layout(network), _layout(expected_network)
        where = next((pair for pair in zip(found, expected, strict=False) if pair[0] != pair[1]), None)
        difference = (
            f"{where[0]} where {where[1]} was expected" if where else f"{len(found)} weights instead of {len(expected)}"
        )
        raise RunFolderError(
            f"{checkpoint}: belongs to another network than the one that the recipe {recipe.name} trains; the first "
            f"difference is {difference}; start from {BEST_CHECKPOINT} of a run with the same recipe, architecture and "
            "filters"
        )
    return Start(path, hashlib.sha256(checkpoint.read_bytes()).hexdigest(), weights)


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
    path = recorded_path(recorded)
    if path is None:
        return None
    return Start(path, recorded["start"]["checkpoint_sha256"], None) if has_state else read_start(path, recipe)


def recorded_path(recorded: Mapping[str, Any]) -> Path | None:
    """Return where a run began, as its run.json says; None if it began with random weights."""
    return Path(recorded["paths"]["start"]) if "start" in recorded.get("paths", {}) else None


def read_card(path: Path) -> dict[str, Any]:
    """Return the part of the model card that describes the weights of a start; see `TrainedModel.card`.

    Parameters
    ----------
    path : Path
        See `read_start`.

    Raises
    ------
    RunFolderError
        The checkpoint does not exist, or there is no complete run next to it that describes a card.
    """
    card = json.loads(load_session().card.to_json()) if path == BUNDLED else _read_card_of_run(path)
    return {key: value for key, value in card.items() if key not in EXPORTED_FIELDS}


def _read_card_of_run(path: Path) -> dict[str, Any]:
    folder = _existing_checkpoint(path).parent
    try:
        return dict(read_run(folder)["export"]["card"])
    except (RunFolderError, KeyError, TypeError, ValueError) as error:
        raise RunFolderError(
            f"{path}: fine-tuning keeps the card of the model that it begins with, and {folder} contains no "
            "complete run that describes one; start from such a run folder, or train with --recipe native"
        ) from error


def checkpoint_of(path: Path) -> Path:
    """Return the file that `BUNDLED`, a run folder or a checkpoint stands for; it need not exist."""
    if path == BUNDLED:
        return BUNDLED_CHECKPOINT
    return path / BEST_CHECKPOINT if path.is_dir() else path


def _existing_checkpoint(path: Path) -> Path:
    checkpoint = checkpoint_of(path)
    if not checkpoint.is_file():
        raise RunFolderError(
            f"{checkpoint}: there is no such checkpoint; give a run folder that contains one, a .keras or .h5 "
            f"file, or {BUNDLED} for the bundled model"
        )
    return checkpoint


def card_of(described: dict[str, Any]) -> ModelCard:
    """Return the card that `read_card` describes, with placeholders for what an export writes, to run a network.

    Raises
    ------
    CardError
        It is no valid card.
    """
    placeholders = {"name": "start", "version": "0", "license": "none", "evaluation": [], "provenance": {}}
    text = json.dumps({**described, **placeholders, "schema_version": SCHEMA_VERSION})
    return parse_card(text, "the card of the start")


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
