"""The settings of the recipe `native`."""

from __future__ import annotations

from dataclasses import dataclass, field

from nuclei_runtime.steps.step import Step
from nuclei_train.batches.augment import Augmentation
from nuclei_train.networks.losses import LossParts
from nuclei_train.recipes.recipe import NORMALISATION


@dataclass(frozen=True)
class NativeSettings:
    """How `native` is trained and how its output is read; run.json records every field.

    Attributes
    ----------
    name : str
    seed : int
        For the initial weights, the crops and, without a split table, the split.
    architecture : str
        One of `nuclei_train.networks.architectures.ARCHITECTURES`.
    filters : int
        In the network's first level, which `stem_unet` has at half resolution.
    crop_px : int
        Side of the square crops.
    normalisation : Step
        Applied once to each whole image.
    augmentation : Augmentation
    eased_share : float
        Share of the epochs, the last ones, in which the augmentation is `Augmentation.eased`: the network finishes on
        images that look like real ones.
    loss : LossParts
    balanced : bool
        Draw rare modalities, and images of touching nuclei, more often than others: see `LabelledImages.shares`.
    leave_out : tuple of str
        Modalities, as the split table calls them, of which no image is fitted or used for validation. This shows how
        a model deals with a modality it never saw.
    batch_size, steps_per_epoch, epochs : int
    learning_rate, weight_decay, gradient_norm : float
        Of AdamW: the peak of a cosine schedule after a warm-up, and the norm at which gradients are clipped.
    warmup_steps : int
        Capped at a tenth of all steps.
    validation_batches : int
    validation_fraction : float
        Share of the images drawn at random for validation if there is no split table.
    calibration_batches : int
        Batches of crops from which an int8 export measures the ranges of the network's values.
    tile_core_px : int
        Side of the part of a tile that is kept when the network runs over an image.
    tolerance : float
        Largest absolute difference in any map allowed between the exported model and the checkpoint.
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
    # bfloat16 would differ by a hundred times as much; float32 alone differs by about 1e-6.
    tolerance: float = 1e-4
