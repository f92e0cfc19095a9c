"""The recipe `native`: a small U-Net at the image's own scale that learns to separate touching nuclei."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.instances import MAPS, Labels
from nuclei_runtime.preprocess import CHANNELS, Step, preprocess
from nuclei_runtime.tiling import Tiling, run_tiled
from nuclei_train.arrays import read_with_truth
from nuclei_train.augment import Augmentation
from nuclei_train.dsb2018 import Sample
from nuclei_train.figures import draw_maps
from nuclei_train.model_description import LIMITATIONS_OF_ALL, describe_training, smallest_area_px
from nuclei_train.recipe import NORMALISATION, Outcome, Sources
from nuclei_train.search import search_parameters
from nuclei_train.stem_unet import HALO_PX, MULTIPLE_OF_PX

if TYPE_CHECKING:
    import keras

INFERENCE_CHECKPOINT = "inference.keras"
"""The best checkpoint in float32, with the maps that the instances need and nothing that only training needs."""


@dataclass(frozen=True)
class LabelledImages:
    """Images at their own scale.

    Attributes
    ----------
    ids, modalities : tuple of str
        The modality is empty where nobody wrote it down.
    images : tuple of (H, W, 3) ndarray of uint8
        Normalised, 255 for 1.
    labels : tuple of (H, W) ndarray of int32
    """

    ids: tuple[str, ...]
    modalities: tuple[str, ...]
    images: tuple[NDArray[np.uint8], ...]
    labels: tuple[Labels, ...]

    @property
    def shares(self) -> NDArray[np.float64]:
        """With which probability each image is drawn.

        Each modality gets a share in proportion to the square root of its number of images, so that the many
        fluorescence images do not drown the rest and the few of the rest are not learned by heart.
        """
        counts = Counter(self.modalities)
        shares = np.array([counts[modality] ** -0.5 for modality in self.modalities])
        return np.asarray(shares / shares.sum())


@dataclass(frozen=True)
class NativeMaterial:
    """The images that `native` is fitted on: a `nuclei_train.recipe.Material`.

    Attributes
    ----------
    train, val : LabelledImages
    recipe : Native
    """

    train: LabelledImages
    val: LabelledImages
    recipe: Native

    @cached_property
    def areas_px(self) -> NDArray[np.int64]:
        """Area of every nucleus that is fitted, in pixels."""
        return np.concatenate([np.bincount(labels.ravel())[1:] for labels in self.train.labels])

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch, which is not a pass over the images: they are drawn at random."""
        return self.recipe.steps_per_epoch

    @property
    def validation(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Crops of the validation images, only moved and flipped, and their maps."""
        plain = Augmentation(scale=(1.0, 1.0), rotate=False, light=False, stain=False)
        stream = self._crops(self.val, plain, seed=self.recipe.seed + 1, first_batch=0)
        images, maps = zip(*(stream[index] for index in range(self.recipe.validation_batches)), strict=True)
        return np.concatenate(images), np.concatenate(maps)

    def batches(self, first_epoch: int) -> Any:
        """Return the augmented crops from an epoch on."""
        recipe = self.recipe
        return self._crops(
            self.train, recipe.augmentation, seed=recipe.seed, first_batch=first_epoch * recipe.steps_per_epoch
        )

    def draw(self, path: Path) -> None:
        """Draw the first crops and their maps."""
        images, maps = self.batches(0)[0]
        draw_maps(path, "As the network gets them", images, maps)

    def _crops(self, source: LabelledImages, augmentation: Augmentation, *, seed: int, first_batch: int) -> Any:
        from nuclei_train.crops import RandomCrops

        return RandomCrops(
            source.images,
            source.labels,
            source.shares,
            batch_size=self.recipe.batch_size,
            crop_px=self.recipe.crop_px,
            seed=seed,
            first_batch=first_batch,
            augmentation=augmentation,
        )


@dataclass(frozen=True)
class Native:
    """How `native` is trained and how its output is read: a `nuclei_train.recipe.Recipe`.

    Attributes
    ----------
    name : str
    seed : int
        Of the initial weights, the crops and, where there is no images.csv, the split.
    filters : int
        At half resolution; see `nuclei_train.stem_unet`.
    crop_px : int
        Side of the square crops.
    normalisation : Step
        What happens to an image, once for the whole of it.
    augmentation : Augmentation
    batch_size, steps_per_epoch, epochs : int
    patience : int
        As many as the epochs: the learning rate's schedule runs to its end.
    learning_rate, weight_decay, gradient_norm : float
        Of AdamW: the peak of a cosine schedule after a warm-up, and the norm at which gradients are cut.
    warmup_steps : int
    validation_batches : int
    validation_fraction : float
        Of the images, drawn at random, where there is no images.csv.
    tile_core_px : int
        Side of the part of a tile that is kept when the network runs over an image.
    tolerance : float
        Largest absolute difference in any map that the exported model may show against the checkpoint.
    """

    name: str = "native"
    seed: int = 42
    filters: int = 24
    crop_px: int = 192
    normalisation: Step = NORMALISATION
    augmentation: Augmentation = field(default_factory=Augmentation)
    batch_size: int = 16
    steps_per_epoch: int = 100
    epochs: int = 100
    patience: int = 100
    learning_rate: float = 1.5e-3
    weight_decay: float = 1e-3
    gradient_norm: float = 5.0
    warmup_steps: int = 200
    validation_batches: int = 8
    validation_fraction: float = 0.1
    tile_core_px: int = 512
    # A difference of bfloat16 would be a hundred times as large; float32's alone is about 1e-6.
    tolerance: float = 1e-4

    def load(self, sources: Sources, advance: Callable[[], None]) -> NativeMaterial:
        """Read all images with truth; those without are not shown."""
        train, val = (
            _load(samples, sources.modality, self.normalisation, advance)
            for samples in (sources.split.train, sources.split.val)
        )
        return NativeMaterial(train, val, self)

    def build(self) -> keras.Model:
        """Build the network in mixed precision, which trains a fifth faster where processors have bfloat16."""
        import keras

        from nuclei_train.losses import map_loss
        from nuclei_train.stem_unet import build_stem_unet
        from nuclei_train.targets import TARGETS

        policy = keras.config.dtype_policy()
        keras.config.set_dtype_policy("mixed_bfloat16")
        try:
            model = build_stem_unet(self.crop_px, self.crop_px, CHANNELS, filters=self.filters, maps=len(TARGETS))
        finally:
            keras.config.set_dtype_policy(policy)
        schedule = keras.optimizers.schedules.CosineDecay(
            0.0,
            max(1, self.epochs * self.steps_per_epoch - self.warmup_steps),
            alpha=0.002,
            warmup_target=self.learning_rate,
            warmup_steps=self.warmup_steps,
        )
        optimizer = keras.optimizers.AdamW(schedule, weight_decay=self.weight_decay, clipnorm=self.gradient_norm)
        model.compile(optimizer=optimizer, loss=map_loss)
        return model

    def finish(self, best: keras.Model, material: NativeMaterial, run: Path) -> Outcome:
        """Choose the parameters of the instances on the validation images, and say how to run the network."""
        from nuclei_train.stem_unet import build_stem_unet

        inference = build_stem_unet(None, None, CHANNELS, filters=self.filters, maps=len(MAPS), activation="sigmoid")
        # The head's weights lie last: the offsets, the last two maps, only help training.
        *body, kernel, bias = best.get_weights()
        inference.set_weights([*body, kernel[:, :, : len(MAPS)], bias[: len(MAPS)]])
        inference.save(run / INFERENCE_CHECKPOINT)

        tiling = Tiling(self.tile_core_px, HALO_PX, MULTIPLE_OF_PX)
        val = material.val
        maps = [
            run_tiled(
                lambda batch: np.asarray(inference.predict_on_batch(batch)),
                np.asarray(image / 255, dtype=np.float32),
                tiling,
            )
            for image in val.images
        ]
        method, search = search_parameters(maps, val.labels, smallest_area_px(material.areas_px))
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
                "Nuclei much smaller or larger than those of the training images are split, merged or lost: resize "
                "images so that the median diameter is near the training's.",
                *LIMITATIONS_OF_ALL,
            ],
        }
        scores = {"val": {metric: search[0][metric] for metric in ("mean AP", "AP@0.5")}}
        return Outcome(INFERENCE_CHECKPOINT, model, scores, search)


def _load(
    samples: Sequence[Sample], modality: Mapping[str, str], normalisation: Step, advance: Callable[[], None]
) -> LabelledImages:
    images, labels = [], []
    for sample in samples:
        image, truth = read_with_truth(sample)
        images.append(np.rint(preprocess(image, (normalisation,)) * 255).astype(np.uint8))
        labels.append(truth)
        advance()
    ids = tuple(sample.image_id for sample in samples)
    return LabelledImages(ids, tuple(modality.get(one, "") for one in ids), tuple(images), tuple(labels))
