"""The images of the recipe `native`, in memory, and the crops cut from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.arrays import Labels, from_uint8, to_uint8
from nuclei_runtime.steps.novelty import Appearance, appearance_of
from nuclei_runtime.steps.preprocess import preprocess
from nuclei_runtime.steps.step import Step
from nuclei_train.batches.augment import Augmentation
from nuclei_train.batches.targets import touching_pixels
from nuclei_train.batches.teacher import Answer, Teacher
from nuclei_train.data.samples import Sample
from nuclei_train.data.truth import read_with_truth
from nuclei_train.recipes.figures import draw_maps
from nuclei_train.recipes.native_settings import NativeSettings

T = TypeVar("T")

UNCHANGED = Augmentation(scale=(1.0, 1.0), rotate=False, light=False, stain=False)
"""Crops that are only moved, flipped and rotated by quarter turns."""


@dataclass(frozen=True)
class LabelledImages:
    """Images at native scale.

    Attributes
    ----------
    ids, modalities : tuple of str
        The modality is empty if it is not known.
    images : tuple of (H, W, 3) ndarray of uint8
        Normalised; see `nuclei_runtime.arrays.to_uint8`.
    labels : tuple of (H, W) ndarray of int32
    answers : tuple of Answer
        The predictions of a teacher; empty if there is none.
    """

    ids: tuple[str, ...]
    modalities: tuple[str, ...]
    images: tuple[NDArray[np.uint8], ...]
    labels: tuple[Labels, ...]
    answers: tuple[Answer, ...] = ()

    def select(self, indices: Sequence[int]) -> LabelledImages:
        """Return some of the images, in this order."""

        def of(column: tuple[T, ...]) -> tuple[T, ...]:
            return tuple(column[index] for index in indices)

        answers = of(self.answers) if self.answers else ()
        return LabelledImages(of(self.ids), of(self.modalities), of(self.images), of(self.labels), answers)

    @cached_property
    def shares(self) -> NDArray[np.float64]:
        """The probability with which each image is drawn.

        The share of a modality is proportional to the square root of its number of images: the many fluorescence images
        do not swamp the rest, and the network does not memorise the few others. Within a modality, the share of an
        image is proportional to the square root of one plus its number of nuclei that touch others: isolated nuclei
        teach little, and most counting errors are touching nuclei taken for one.
        """
        modalities, modality = np.unique(self.modalities, return_inverse=True)
        touching = [np.unique(labels[touching_pixels(labels)]).size for labels in self.labels]
        within = np.sqrt(1.0 + np.array(touching))
        within /= np.bincount(modality, within)[modality]
        of_modality = np.sqrt(np.bincount(modality, minlength=modalities.size))
        return np.asarray(within * (of_modality / of_modality.sum())[modality])


@dataclass(frozen=True)
class NativeMaterial:
    """The images for `native`: a `nuclei_train.recipes.recipe.Material`.

    Attributes
    ----------
    train, val : LabelledImages
    settings : NativeSettings
    """

    train: LabelledImages
    val: LabelledImages
    settings: NativeSettings

    @cached_property
    def areas_px(self) -> NDArray[np.int64]:
        """Area of every nucleus in the training images, in pixels."""
        return np.concatenate([np.bincount(labels.ravel())[1:] for labels in self.train.labels])

    @property
    def appearances(self) -> list[Appearance]:
        """What each training image looks like, if anything in it stands out."""
        found = [appearance_of([from_uint8(image)]) for image in self.train.images if image.any()]
        return [one for one in found if one is not None]

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches per epoch, which is not one pass over the images: they are drawn at random."""
        return self.settings.steps_per_epoch

    @property
    def validation(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Unaugmented crops of the validation images, and their maps."""
        stream = self._crops(self.val, self.val.shares, UNCHANGED, seed=self.settings.seed + 1, first_batch=0)
        images, maps = zip(*(stream[index] for index in range(self.settings.validation_batches)), strict=True)
        return np.concatenate(images), np.concatenate(maps)

    def batches(self, epoch: int, skipped_epochs: int = 0) -> Any:
        """Return the augmented crops, beginning with an epoch; in the last epochs they are changed less."""
        settings, images = self.settings, self.train
        shares = images.shares if settings.balanced else np.full(len(images.ids), 1 / len(images.ids))
        first_batch = (skipped_epochs + epoch) * settings.steps_per_epoch
        eased_epoch = settings.epochs - round(settings.epochs * settings.eased_share)
        return self._crops(
            images,
            shares,
            settings.augmentation,
            seed=settings.seed,
            first_batch=first_batch,
            eased_batch=(skipped_epochs + eased_epoch) * settings.steps_per_epoch,
        )

    def save_for_quantisation(self, path: Path) -> dict[str, Any]:
        """Write what an int8 export needs: crops to calibrate with, and the validation images to score.

        The file is an ``.npz`` with images in 8 bits (see `nuclei_runtime.arrays.to_uint8`). The crops (N, H, W, 3)
        are unaugmented parts of the images that are fitted.

        Returns
        -------
        dict
            For run.json, which tells the export where to look: the name of the ``file``, and those of the arrays with
            the ``crops``, the validation ``images`` (H, W, 3) and their ``labels`` (H, W).
        """
        stream = self._crops(self.train, self.train.shares, UNCHANGED, seed=self.settings.seed + 2, first_batch=0)
        crops = np.concatenate([stream[index][0] for index in range(self.settings.calibration_batches)])
        images = {f"image_{index:03}": image for index, image in enumerate(self.val.images)}
        labels = {f"labels_{index:03}": truth for index, truth in enumerate(self.val.labels)}
        arrays: dict[str, Any] = {"crops": to_uint8(crops), **images, **labels}
        np.savez_compressed(path, **arrays)
        return {"file": path.name, "crops": "crops", "images": list(images), "labels": list(labels)}

    def draw(self, path: Path) -> None:
        """Draw the first crops and their maps."""
        images, maps = self.batches(0)[0]
        draw_maps(path, "What the network receives", images, maps)

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
            batch_size=self.settings.batch_size,
            crop_px=self.settings.crop_px,
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
    """Read and normalise samples at native scale, with their truth and the answers of the teacher, if there is one.

    `advance` is called after each sample.

    Raises
    ------
    DatasetError
        See `nuclei_train.data.truth.read_with_truth`.
    """
    images, labels, answers = [], [], []
    for sample in samples:
        image, truth = read_with_truth(sample)
        images.append(to_uint8(preprocess(image, (normalisation,))))
        labels.append(truth)
        if teacher is not None:
            answers.append(teacher.answer(image, truth))
        advance()
    ids = tuple(sample.image_id for sample in samples)
    return LabelledImages(
        ids, tuple(modality.get(one, "") for one in ids), tuple(images), tuple(labels), tuple(answers)
    )
