"""The recipe `baseline`: a U-Net on whole images resized to 128 x 128 pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.errors import ModelError
from nuclei_runtime.steps.preprocess import CHANNELS
from nuclei_runtime.steps.step import Step
from nuclei_train import run_folder
from nuclei_train.data.arrays import TruthArrays, load_images, load_truth
from nuclei_train.recipes.figures import draw_samples
from nuclei_train.recipes.model_description import LIMITATIONS_OF_ALL, describe_training, smallest_area_px
from nuclei_train.recipes.recipe import NORMALISATION, Outcome, Sources

if TYPE_CHECKING:
    import keras


FILTERS = 16
"""At full resolution; see `nuclei_train.networks.unet`."""


@dataclass(frozen=True)
class BaselineMaterial:
    """The arrays that the baseline is fitted on: a `nuclei_train.recipes.recipe.Material`.

    Attributes
    ----------
    train, val : TruthArrays
    test_ids : tuple of str
    test_images : (N, size, size, 3) ndarray of float32, or None where there is no test set
    batch_size, seed : int
    """

    train: TruthArrays
    val: TruthArrays
    test_ids: tuple[str, ...]
    test_images: NDArray[np.float32] | None
    batch_size: int
    seed: int

    @property
    def areas_px(self) -> NDArray[np.int64]:
        """Area of every nucleus that is fitted, in pixels of the original images."""
        return self.train.areas_px

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch; the last one may be smaller."""
        return -(-len(self.train.images) // self.batch_size)

    @property
    def validation(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Images and foreground."""
        return self.val.images, self.val.foreground.astype(np.float32)

    def batches(self, epoch: int, skipped_epochs: int = 0) -> Any:
        """Return the shuffled batches from an epoch on."""
        from nuclei_train.batches.batches import ShuffledBatches

        return ShuffledBatches(
            self.train.images,
            self.train.foreground,
            batch_size=self.batch_size,
            seed=self.seed,
            first_epoch=skipped_epochs + epoch,
        )

    def draw(self, path: Path) -> None:
        """Draw some training images and masks as the network gets them."""
        arrays = self.train
        draw_samples(
            path, "As the network gets them", arrays.ids, arrays.images, arrays.foreground, None, seed=self.seed
        )


@dataclass(frozen=True)
class Baseline:
    """How the baseline is trained and how its output is read: a `nuclei_train.recipes.recipe.Recipe`.

    Attributes
    ----------
    name : str
    seed : int
        Of the initial weights, dropout, the order of batches and, where there is no images.csv, the split.
    size_px : int
        Height and width to which images and masks are resized.
    normalisation : Step
        What happens to an image before the resize.
    batch_size, epochs : int
    patience : int
        Epochs without a better validation loss after which training stops.
    learning_rate : float
        Of Adam.
    validation_fraction : float
        Of the images, drawn at random, where there is no images.csv.
    threshold : float
        Foreground is where the probability is above it.
    tolerance : float
        Largest absolute difference in probability that the exported model may show against the checkpoint.
    """

    name: str = "baseline"
    seed: int = 42
    size_px: int = 128
    normalisation: Step = NORMALISATION
    batch_size: int = 16
    epochs: int = 25
    patience: int = 2
    learning_rate: float = 1e-3  # Kingma and Ba 2015, and Keras's default
    validation_fraction: float = 0.1
    threshold: float = 0.5  # of a sigmoid trained with binary cross-entropy: the more probable class
    # Some hundred times the difference that float32 and another order of summation make (measured: about 1e-6).
    tolerance: float = 1e-4

    @property
    def preprocessing(self) -> tuple[Step, ...]:
        """What happens to an image before the network, in order."""
        return (self.normalisation, Step("resize", {"height": self.size_px, "width": self.size_px}))

    def choose(self, sources: Sources) -> Sources:
        """Return them all; those without truth are shown with their prediction."""
        if sources.teacher is not None:
            raise ModelError("the recipe baseline learns from masks alone; leave --teacher out, or train native")
        return sources

    def load(self, sources: Sources, advance: Callable[[], None]) -> BaselineMaterial:
        """Read and resize all images."""
        train, val = (
            load_truth(samples, self.preprocessing, self.size_px, advance)
            for samples in (sources.split.train, sources.split.val)
        )
        test = load_images(sources.test, self.preprocessing, advance) if sources.test else None
        test_ids = tuple(sample.image_id for sample in sources.test)
        return BaselineMaterial(train, val, test_ids, test, self.batch_size, self.seed)

    def build(self) -> keras.Model:
        """Build and compile the U-Net."""
        import keras

        from nuclei_train.networks.unet import build_unet

        model = build_unet(self.size_px, self.size_px, CHANNELS, filters=FILTERS, maps=1, activation="sigmoid")
        model.compile(
            optimizer=keras.optimizers.Adam(self.learning_rate), loss="binary_crossentropy", metrics=["accuracy"]
        )
        return model

    def finish(self, best: keras.Model, material: BaselineMaterial, run: Path) -> Outcome:
        """Score the best checkpoint, and draw image, truth and prediction of each set."""
        scores = {}
        for name, arrays in (("train", material.train), ("val", material.val)):
            loss, accuracy = best.evaluate(
                arrays.images, arrays.foreground.astype(np.float32), batch_size=self.batch_size, verbose=0
            )
            scores[name] = {"loss": float(loss), "accuracy": float(accuracy)}
            self._draw(best, run, name, arrays.ids, arrays.images, arrays.foreground)
        if material.test_images is not None:
            self._draw(best, run, "test", material.test_ids, material.test_images, None)
        model = {
            **describe_training(material.areas_px),
            "input": {
                "name": "image",
                "height": self.size_px,
                "width": self.size_px,
                "channels": CHANNELS,
                "tiling": None,
            },
            "output": {"name": "foreground", "maps": ["foreground"]},
            "preprocessing": [asdict(step) for step in self.preprocessing],
            "postprocessing": {
                "id": "connected_components",
                "kwargs": {
                    "threshold": self.threshold,
                    "min_area_px": smallest_area_px(material.areas_px),
                },
            },
            "tolerance": self.tolerance,
            "description": "Finds nuclei as foreground: a U-Net on the whole image resized to 128 x 128 pixels.",
            "limitations": [
                "Touching nuclei come out as one: nuclei are the connected pieces of the foreground.",
                "Every image is squeezed to 128 x 128 pixels, whatever its size and aspect ratio: outlines are "
                "coarse, and nuclei that are small against the image are lost. Cut large images into tiles of about "
                "256 x 256 pixels.",
                *LIMITATIONS_OF_ALL,
            ],
        }
        return Outcome(run_folder.BEST_CHECKPOINT, model, scores, search=[])

    def _draw(self, best: keras.Model, run: Path, name: str, ids: tuple[str, ...], images: Any, truth: Any) -> None:
        """Draw random samples of a set; all are predicted because the choice is the figure's."""
        probability = best.predict(images, batch_size=self.batch_size, verbose=0)
        path = run / f"predictions_{name}.png"
        draw_samples(path, f"{name}: the best checkpoint", ids, images, truth, probability, seed=self.seed)
