"""The recipe `native`: a small U-Net at the image's own scale that learns to separate touching nuclei."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.arrays import Maps
from nuclei_runtime.steps.preprocess import CHANNELS
from nuclei_runtime.steps.step import MAPS, Step
from nuclei_runtime.steps.tiling import Tiling, run_tiled
from nuclei_train.batches.augment import Augmentation
from nuclei_train.data.split import without_modalities
from nuclei_train.networks.architectures import ARCHITECTURES, Architecture
from nuclei_train.networks.losses import LossParts, loss_of
from nuclei_train.recipes.model_description import LIMITATIONS_OF_ALL, describe_training, smallest_area_px
from nuclei_train.recipes.native_material import NativeMaterial, load_labelled
from nuclei_train.recipes.precision import training_policy
from nuclei_train.recipes.recipe import NORMALISATION, Outcome, Sources
from nuclei_train.recipes.search import MARKER_BORDERS, search_parameters

if TYPE_CHECKING:
    import keras

INFERENCE_CHECKPOINT = "inference.keras"
"""The best checkpoint in float32, with the maps that the instances need and nothing that only training needs."""

QUANTISATION_DATA = "quantisation.npz"
"""See `NativeMaterial.save_for_quantisation`."""


@dataclass(frozen=True)
class Native:
    """How `native` is trained and how its output is read: a `nuclei_train.recipes.recipe.Recipe`.

    Attributes
    ----------
    name : str
    seed : int
        Of the initial weights, the crops and, where there is no images.csv, the split.
    architecture : str
        One of `nuclei_train.networks.architectures.ARCHITECTURES`.
    filters : int
        Of its first level, which for `stem_unet` lies at half resolution.
    crop_px : int
        Side of the square crops.
    normalisation : Step
        What happens to an image, once for the whole of it.
    augmentation : Augmentation
    eased_share : float
        Of the epochs, the last ones, in which the augmentation is `Augmentation.eased`: the network ends on images
        that look like real ones.
    loss : LossParts
    balanced : bool
        Draw rare modalities, and images of touching nuclei, more often than others: see `LabelledImages.shares`.
    leave_out : tuple of str
        Modalities, as images.csv calls them, of which no image is fitted or validates: to see what a model makes of
        one that it never saw.
    batch_size, steps_per_epoch, epochs : int
    learning_rate, weight_decay, gradient_norm : float
        Of AdamW: the peak of a cosine schedule after a warm-up, and the norm at which gradients are cut.
    warmup_steps : int
        At most a tenth of all steps, where there are few.
    validation_batches : int
    validation_fraction : float
        Of the images, drawn at random, where there is no images.csv.
    calibration_batches : int
        Of crops from which an int8 export learns the ranges of the network's values.
    tile_core_px : int
        Side of the part of a tile that is kept when the network runs over an image.
    tolerance : float
        Largest absolute difference in any map that the exported model may show against the checkpoint.
    """

    name: str = "native"
    seed: int = 42
    architecture: str = "stem_unet"
    filters: int = 24
    crop_px: int = 192
    normalisation: Step = NORMALISATION
    augmentation: Augmentation = field(default_factory=Augmentation)
    eased_share: float = 0.3
    loss: LossParts = field(default_factory=LossParts)
    balanced: bool = True
    leave_out: tuple[str, ...] = ()
    batch_size: int = 16
    steps_per_epoch: int = 100
    epochs: int = 100
    learning_rate: float = 1.5e-3
    weight_decay: float = 1e-3
    gradient_norm: float = 5.0
    warmup_steps: int = 200
    validation_batches: int = 8
    validation_fraction: float = 0.1
    calibration_batches: int = 8
    tile_core_px: int = 512
    # A difference of bfloat16 would be a hundred times as large; float32's alone is about 1e-6.
    tolerance: float = 1e-4

    @property
    def patience(self) -> int:
        """As many as the epochs: the learning rate's schedule runs to its end."""
        return self.epochs

    @property
    def network(self) -> Architecture:
        """How the network is built, and what tiles must know of it."""
        return ARCHITECTURES[self.architecture]

    def choose(self, sources: Sources) -> Sources:
        """Return the images with truth, without those of the modalities that are left out."""
        split = without_modalities(sources.split, sources.modality, self.leave_out)
        return replace(sources, split=split, test=())

    def load(self, sources: Sources, advance: Callable[[], None]) -> NativeMaterial:
        """Read all images with truth."""
        train, val = (
            load_labelled(samples, sources.modality, self.normalisation, advance, teacher)
            for samples, teacher in ((sources.split.train, sources.teacher), (sources.split.val, None))
        )
        return NativeMaterial(train, val, self)

    def build(self) -> keras.Model:
        """Build the network, in half precision where that is faster."""
        import keras

        from nuclei_train.batches.targets import TARGETS

        policy = keras.config.dtype_policy()
        keras.config.set_dtype_policy(training_policy())
        try:
            model = self.network.build(self.crop_px, self.crop_px, CHANNELS, filters=self.filters, maps=len(TARGETS))
        finally:
            keras.config.set_dtype_policy(policy)
        steps = self.epochs * self.steps_per_epoch
        warmup_steps = max(1, min(self.warmup_steps, steps // 10))
        schedule = keras.optimizers.schedules.CosineDecay(
            0.0,
            max(1, steps - warmup_steps),
            alpha=0.002,
            warmup_target=self.learning_rate,
            warmup_steps=warmup_steps,
        )
        optimizer = keras.optimizers.AdamW(schedule, weight_decay=self.weight_decay, clipnorm=self.gradient_norm)
        model.compile(optimizer=optimizer, loss=loss_of(self.loss))
        return model

    def finish(self, best: keras.Model, material: NativeMaterial, run: Path) -> Outcome:
        """Choose the parameters of the instances on the validation images, and say how to run the network."""
        network, val = self.network, material.val
        inference = network.build(None, None, CHANNELS, filters=self.filters, maps=len(MAPS), activation="sigmoid")
        # The head is cut to its first maps: the offsets, the last two, only help training.
        inference.set_weights(
            [
                weight[tuple(slice(n) for n in kept.shape)]
                for weight, kept in zip(best.get_weights(), inference.weights, strict=True)
            ]
        )
        inference.save(run / INFERENCE_CHECKPOINT)
        material.save_for_quantisation(run / QUANTISATION_DATA)

        tiling = Tiling(self.tile_core_px, network.halo_px, network.multiple_of_px)
        maps = [predict_maps(inference, image, tiling) for image in val.images]
        # A border map that was not learned must keep no marker out.
        borders = MARKER_BORDERS if self.loss.border else (1.0,)
        method, search = search_parameters(maps, val.labels, smallest_area_px(material.areas_px), borders)
        model = {
            **describe_training(material.areas_px),
            "input": {
                "name": "image",
                "height": None,
                "width": None,
                "channels": CHANNELS,
                "tiling": asdict(tiling),
            },
            "output": {"name": "maps", "maps": list(MAPS)},
            "preprocessing": [asdict(self.normalisation)],
            "postprocessing": asdict(method),
            "tolerance": self.tolerance,
            "description": "Finds single nuclei: a small U-Net at the image's own scale that gives foreground, "
            "distance to the edge and touching borders, and a watershed from markers.",
            "limitations": [
                "Nuclei much smaller or larger than those of the training images are split, merged or lost: say how "
                "large they are (nuclei-infer --diameter), or resize images so that the median is near the training's.",
                *LIMITATIONS_OF_ALL,
            ],
        }
        scores = {"val": {metric: search[0][metric] for metric in ("mean AP", "AP@0.5")}}
        return Outcome(INFERENCE_CHECKPOINT, model, scores, search)


def predict_maps(network: keras.Model, image: NDArray[np.uint8], tiling: Tiling) -> Maps:
    """Return the maps of a normalised (H, W, 3) image, of which 255 is 1, (H, W, M) float32."""
    normalised = np.asarray(image / 255, dtype=np.float32)
    return run_tiled(lambda batch: np.asarray(network.predict_on_batch(batch)), normalised, tiling)
