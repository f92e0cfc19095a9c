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
from nuclei_train.recipes.baseline_arrays import TruthArrays, load_images, load_truth
from nuclei_train.recipes.figures import draw_examples
from nuclei_train.recipes.model_description import LIMITATIONS_OF_ALL, describe_training, smallest_area_px
from nuclei_train.recipes.recipe import NORMALISATION, Sources, TrainedModel

if TYPE_CHECKING:
    import keras


FILTERS = 16
"""At full resolution; see `nuclei_train.networks.unet`."""


@dataclass(frozen=True)
class BaselineMaterial:
    """The arrays for the baseline: a `nuclei_train.recipes.recipe.Material`.

    Attributes
    ----------
    train, val : TruthArrays
    test_ids : tuple of str
    test_images : (N, size, size, 3) ndarray of float32, or None if there is no test set
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
        """Area of every nucleus in the training images, in pixels of the original images."""
        return self.train.areas_px

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches per epoch; the last one may be smaller."""
        return -(-len(self.train.images) // self.batch_size)

    @property
    def validation(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Images and foreground."""
        return self.val.images, self.val.foreground.astype(np.float32)

    def batches(self, epoch: int, skipped_epochs: int = 0) -> Any:
        """Return the shuffled batches, beginning with an epoch."""
        from nuclei_train.batches.shuffled import ShuffledBatches

        return ShuffledBatches(
            self.train.images,
            self.train.foreground,
            batch_size=self.batch_size,
            seed=self.seed,
            first_epoch=skipped_epochs + epoch,
        )

    def draw(self, path: Path) -> None:
        """Draw some training images and masks as the network receives them."""
        arrays = self.train
        draw_examples(
            path, "What the network receives", arrays.ids, arrays.images, arrays.foreground, None, seed=self.seed
        )


@dataclass(frozen=True)
class Baseline:
    """How the baseline is trained and how its output is read: a `nuclei_train.recipes.recipe.Recipe`.

    Attributes
    ----------
    name : str
    seed : int
        For the initial weights, dropout, the order of batches and, without a split table, the split.
    size_px : int
        Height and width to which images and masks are resized.
    normalisation : Step
        Applied to an image before it is resized.
    batch_size, epochs : int
    patience : int
        Number of epochs without a lower validation loss after which training stops.
    learning_rate : float
        Of Adam.
    validation_fraction : float
        Share of the images drawn at random for validation if there is no split table.
    threshold : float
        Pixels with a higher probability are foreground.
    tolerance : float
        Largest absolute difference in probability allowed between the exported model and the checkpoint.
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
    threshold: float = 0.5  # the more probable class for a sigmoid trained with binary cross-entropy
    # About a hundred times the difference due to float32 and another order of summation (measured: about 1e-6).
    tolerance: float = 1e-4

    @property
    def preprocessing(self) -> tuple[Step, ...]:
        """The steps applied to an image before the network, in order."""
        return (self.normalisation, Step("resize", {"height": self.size_px, "width": self.size_px}))

    def choose(self, sources: Sources) -> Sources:
        """Return all sources; images without truth are drawn with their prediction."""
        if sources.teacher is not None:
            raise ModelError("the recipe baseline cannot use a teacher; leave --teacher out, or train native")
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

    def finish(self, best: keras.Model, material: BaselineMaterial, run: Path) -> TrainedModel:
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
        card = {
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
                "Touching nuclei are merged: nuclei are the connected components of the foreground.",
                "Every image is resized to 128 x 128 pixels, whatever its size and aspect ratio: outlines are coarse, "
                "and nuclei that are small relative to the image are lost. Cut large images into tiles of about "
                "256 x 256 pixels.",
                *LIMITATIONS_OF_ALL,
            ],
        }
        return TrainedModel(run_folder.BEST_CHECKPOINT, card, scores, search=[])

    def _draw(self, best: keras.Model, run: Path, name: str, ids: tuple[str, ...], images: Any, truth: Any) -> None:
        """Draw random images of a set; all are predicted because the figure makes the choice."""
        probability = best.predict(images, batch_size=self.batch_size, verbose=0)
        path = run / f"predictions_{name}.png"
        draw_examples(path, f"{name}: the best checkpoint", ids, images, truth, probability, seed=self.seed)
