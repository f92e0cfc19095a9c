"""What a recipe is: everything in which one way of training differs from another."""

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


NORMALISATION = Step("percentile_normalisation", {"lower": 1.0, "upper": 99.8})
"""What every recipe does to an image first. The limits are those of StarDist's normalisation (Schmidt et al. 2018,
code): robust against single hot pixels, and the same picture in 8, 12 or 16 bits gives the same input."""


@dataclass(frozen=True)
class Sources:
    """What a training is made from.

    Attributes
    ----------
    split : Split
    modality : mapping of str to str
        By image identifier; empty where nobody wrote it down.
    test : sequence of Sample
        Images without truth, to be shown with their prediction.
    teacher : Teacher, optional
        A model whose answers are learned beside the truth.
    """

    split: Split
    modality: Mapping[str, str]
    test: Sequence[Sample]
    teacher: Teacher | None = None

    def __len__(self) -> int:
        """How many images there are to read."""
        return len(self.split.train) + len(self.split.val) + len(self.test)


@dataclass(frozen=True)
class Outcome:
    """What a recipe makes of its best checkpoint.

    Attributes
    ----------
    checkpoint : str
        Name of the file in the run folder that is to be exported.
    model : dict
        The model card's part that only training knows, in the card's own words.
    scores : dict of str to dict of str to float
        Set, then metric.
    search : list of dict
        Every choice of parameters that was tried on the validation images, with its score.
    """

    checkpoint: str
    model: dict[str, Any]
    scores: dict[str, dict[str, float]]
    search: list[dict[str, float]]


class Material(Protocol):
    """The images as a recipe fits them, in memory."""

    areas_px: NDArray[np.int64]
    """Area of every nucleus that is fitted, in pixels of the original images."""

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""

    @property
    def validation(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Inputs and targets."""

    def batches(self, epoch: int, skipped_epochs: int = 0) -> Any:
        """Return an endless `keras.utils.PyDataset` in which batch i is always the same, from an epoch on.

        So many epochs of the stream are skipped, which the weights that a training starts from may have seen.
        """

    def draw(self, path: Path) -> None:
        """Draw a random choice of what the network gets, for people to check."""


class Recipe(Protocol):
    """A way of training: data, network and optimisation, and how the network's output is read.

    A recipe is a frozen dataclass: run.json holds all its fields.
    """

    @property
    def name(self) -> str:
        """Its name on the command line."""

    @property
    def seed(self) -> int:
        """Of all that is random."""

    @property
    def epochs(self) -> int:
        """At most so many."""

    @property
    def patience(self) -> int:
        """Epochs without a better validation loss after which training stops."""

    @property
    def batch_size(self) -> int:
        """Images a step."""

    @property
    def validation_fraction(self) -> float:
        """Of the images, drawn at random, where there is no images.csv."""

    def choose(self, sources: Sources) -> Sources:
        """Return what of the sources it reads, or raise a DatasetError where nothing would be left."""

    def load(self, sources: Sources, advance: Callable[[], None]) -> Any:
        """Read all chosen images into a `Material`; `advance` is called after each."""

    def build(self) -> keras.Model:
        """Build and compile the network."""

    def finish(self, best: keras.Model, material: Any, run: Path) -> Outcome:
        """Score the best checkpoint, draw its predictions into the run folder and say how to run it."""
