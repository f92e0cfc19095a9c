"""The images of the recipe `native`, in memory, and the crops that it is fitted on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.arrays import Labels
from nuclei_runtime.steps.preprocess import preprocess
from nuclei_runtime.steps.step import Step
from nuclei_train.batches.augment import Augmentation
from nuclei_train.batches.targets import touching_pixels
from nuclei_train.batches.teacher import Teacher
from nuclei_train.data.arrays import read_with_truth
from nuclei_train.data.samples import Sample
from nuclei_train.recipes.figures import draw_maps

if TYPE_CHECKING:
    from nuclei_train.recipes.native import Native


UNCHANGED = Augmentation(scale=(1.0, 1.0), rotate=False, light=False, stain=False)
"""Crops that are only moved, flipped and turned by quarters."""


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
    answers : tuple of (H, W, 3) ndarray of uint8
        What a teacher makes of them, see `nuclei_train.batches.teacher`; empty where there is none.
    """

    ids: tuple[str, ...]
    modalities: tuple[str, ...]
    images: tuple[NDArray[np.uint8], ...]
    labels: tuple[Labels, ...]
    answers: tuple[NDArray[np.uint8], ...] = ()

    @cached_property
    def shares(self) -> NDArray[np.float64]:
        """With which probability each image is drawn.

        Each modality gets a share in proportion to the square root of its number of images, so that the many
        fluorescence images do not drown the rest and the few of the rest are not learned by heart. Within a modality
        it is in proportion to the square root of one more than the nuclei that touch others: where nuclei lie apart
        there is little to learn, and most of what a network counts wrong are neighbours that it takes for one.
        """
        modalities, modality = np.unique(self.modalities, return_inverse=True)
        touching = [np.unique(labels[touching_pixels(labels)]).size for labels in self.labels]
        within = np.sqrt(1.0 + np.array(touching))
        within /= np.bincount(modality, within)[modality]
        of_modality = np.sqrt(np.bincount(modality, minlength=modalities.size))
        return np.asarray(within * (of_modality / of_modality.sum())[modality])


@dataclass(frozen=True)
class NativeMaterial:
    """The images that `native` is fitted on: a `nuclei_train.recipes.recipe.Material`.

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
        stream = self._crops(self.val, self.val.shares, UNCHANGED, seed=self.recipe.seed + 1, first_batch=0)
        images, maps = zip(*(stream[index] for index in range(self.recipe.validation_batches)), strict=True)
        return np.concatenate(images), np.concatenate(maps)

    def batches(self, epoch: int, skipped_epochs: int = 0) -> Any:
        """Return the augmented crops from an epoch on, changed less in the last ones."""
        recipe, images = self.recipe, self.train
        shares = images.shares if recipe.balanced else np.full(len(images.ids), 1 / len(images.ids))
        first_batch = (skipped_epochs + epoch) * recipe.steps_per_epoch
        eased_epoch = recipe.epochs - round(recipe.epochs * recipe.eased_share)
        return self._crops(
            images,
            shares,
            recipe.augmentation,
            seed=recipe.seed,
            first_batch=first_batch,
            eased_batch=(skipped_epochs + eased_epoch) * recipe.steps_per_epoch,
        )

    def save_for_quantisation(self, path: Path) -> None:
        """Write what `nuclei-export --precision int8` needs: crops to calibrate with, validation images to score.

        An ``.npz`` of uint8 images, 255 for 1: ``crops`` (N, H, W, 3), unchanged parts of the images that are fitted;
        ``image_000`` (H, W, 3) and ``labels_000`` (H, W), and so on.
        """
        stream = self._crops(self.train, self.train.shares, UNCHANGED, seed=self.recipe.seed + 2, first_batch=0)
        crops = np.concatenate([stream[index][0] for index in range(self.recipe.calibration_batches)])
        arrays = {"crops": np.rint(crops * 255).astype(np.uint8)}
        for index, (image, labels) in enumerate(zip(self.val.images, self.val.labels, strict=True)):
            arrays |= {f"image_{index:03}": image, f"labels_{index:03}": labels}
        np.savez_compressed(path, **arrays)

    def draw(self, path: Path) -> None:
        """Draw the first crops and their maps."""
        images, maps = self.batches(0)[0]
        draw_maps(path, "As the network gets them", images, maps)

    def _crops(
        self,
        source: LabelledImages,
        shares: NDArray[np.float64],
        augmentation: Augmentation,
        *,
        seed: int,
        first_batch: int,
        eased_batch: int | None = None,
    ) -> Any:
        from nuclei_train.batches.crops import RandomCrops

        return RandomCrops(
            source.images,
            source.labels,
            shares,
            batch_size=self.recipe.batch_size,
            crop_px=self.recipe.crop_px,
            seed=seed,
            first_batch=first_batch,
            eased_batch=eased_batch,
            augmentation=augmentation,
            answers=source.answers,
        )


def load_labelled(
    samples: Sequence[Sample],
    modality: Mapping[str, str],
    normalisation: Step,
    advance: Callable[[], None],
    teacher: Teacher | None = None,
) -> LabelledImages:
    """Read and normalise samples at their own scale, with their truth and the answer of the teacher, if there is one.

    `advance` is called after each.

    Raises
    ------
    DatasetError
        See `nuclei_train.data.arrays.read_with_truth`.
    """
    images, labels, answers = [], [], []
    for sample in samples:
        image, truth = read_with_truth(sample)
        images.append(np.rint(preprocess(image, (normalisation,)) * 255).astype(np.uint8))
        labels.append(truth)
        if teacher is not None:
            answers.append(teacher.answer(image))
        advance()
    ids = tuple(sample.image_id for sample in samples)
    return LabelledImages(
        ids, tuple(modality.get(one, "") for one in ids), tuple(images), tuple(labels), tuple(answers)
    )
