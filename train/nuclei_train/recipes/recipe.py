"""The interface of a recipe, which is a way of training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.steps.step import Step
from nuclei_train.batches.teacher import Teacher
from nuclei_train.data.samples import Sample
from nuclei_train.data.split import Split

if TYPE_CHECKING:
    import keras


NORMALISATION = Step("structure_normalisation", {"lower": 1.0, "upper": 99.8})
"""The first step of every recipe. The percentiles are those of StarDist's normalisation (Schmidt et al. 2018, code), of
the parts of the image that hold something. The same image in 8, 12 or 16 bits gives the same input."""


@dataclass(frozen=True)
class Replay:
    """Images of an earlier training, to be fitted again so that they are not forgotten.

    Attributes
    ----------
    name : str
        Of the data set.
    split_digest : str
        See `nuclei_train.data.split.Split`.
    train, val : tuple of Sample
        Images to fit, and images on which to see what was forgotten.
    modality : mapping of str to str
        By image identifier; empty if it is not known.
    """

    name: str
    split_digest: str
    train: tuple[Sample, ...]
    val: tuple[Sample, ...]
    modality: Mapping[str, str]


@dataclass(frozen=True)
class Sources:
    """The samples and the teacher that a training learns from.

    Attributes
    ----------
    split : Split
    modality : mapping of str to str
        By image identifier; empty if it is not known.
    test : sequence of Sample
        Images without truth, to be drawn with their prediction.
    teacher : Teacher, optional
        A model whose predictions are learned with the truth.
    replay : Replay, optional
    """

    split: Split
    modality: Mapping[str, str]
    test: Sequence[Sample]
    teacher: Teacher | None = None
    replay: Replay | None = None

    def __len__(self) -> int:
        """The number of images to read."""
        n_replayed = len(self.replay.train) + len(self.replay.val) if self.replay is not None else 0
        return len(self.split.train) + len(self.split.val) + len(self.test) + n_replayed


@dataclass(frozen=True)
class TrainedModel:
    """The model that a recipe makes of its best checkpoint.

    Attributes
    ----------
    checkpoint : str
        Name of the file in the run folder to export.
    card : dict
        The part of the model card that only training knows, in the card's vocabulary.
    scores : dict of str to dict of str to float
        Set, then metric.
    search : list of dict
        Every combination of parameters tried on the validation images, with its scores.
    quantisation : dict, optional
        Where an int8 export finds its data: see `NativeMaterial.save_for_quantisation`.
    """

    checkpoint: str
    card: dict[str, Any]
    scores: dict[str, dict[str, float]]
    search: list[dict[str, float]]
    quantisation: dict[str, Any] | None = None


class Material(Protocol):
    """The images of a training, in memory, as a recipe prepares them."""

    areas_px: NDArray[np.int64]
    """Area of every nucleus in the training images, in pixels of the original images."""

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches per epoch."""

    @property
    def validation(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Inputs and targets for validation."""

    def batches(self, epoch: int, skipped_epochs: int = 0) -> Any:
        """Return an endless, reproducible `keras.utils.PyDataset` that begins with an epoch.

        The first `skipped_epochs` of the stream are never used: a checkpoint that training starts from may have seen
        them.
        """

    def draw(self, path: Path) -> None:
        """Draw a random choice of the network's inputs and targets, as a sanity check."""


class Recipe(Protocol):
    """A way of training: data, network and optimisation, and how the network's output is interpreted.

    A recipe is a frozen dataclass; run.json contains all its fields.
    """

    @property
    def name(self) -> str:
        """Its name on the command line."""

    @property
    def seed(self) -> int:
        """Seed for everything random."""

    @property
    def epochs(self) -> int:
        """Maximum number of epochs."""

    @property
    def patience(self) -> int:
        """Number of epochs without a lower validation loss after which training stops."""

    @property
    def batch_size(self) -> int:
        """Images per batch."""

    @property
    def learning_rate(self) -> float:
        """Of the optimiser; the largest, if it changes."""

    @property
    def validation_fraction(self) -> float:
        """Share of the images drawn at random for validation if there is no split table."""

    def choose(self, sources: Sources) -> Sources:
        """Return the part of the sources that the recipe reads, or raise a DatasetError if nothing is left."""

    def load(self, sources: Sources, advance: Callable[[], None]) -> Any:
        """Read all chosen images into a `Material`; `advance` is called after each image."""

    def build(self) -> keras.Model:
        """Build and compile the network."""

    def finish(self, best: keras.Model, material: Any, run: Path) -> TrainedModel:
        """Score the best checkpoint, write its figures into the run folder and describe the model."""
