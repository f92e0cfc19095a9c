"""Images and labels -> an endless stream of augmented crops in which batch i is always the same batch i."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.arrays import Labels
from nuclei_runtime.steps.preprocess import CHANNELS
from nuclei_train.batches.augment import Augmentation, random_appearance, random_crop
from nuclei_train.batches.targets import target_maps
from nuclei_train.batches.teacher import SHARE

WORKERS = 2
"""Fewer, and Keras would cut the crops between the steps instead of beside them."""


class RandomCrops(keras.utils.PyDataset):  # type: ignore[misc]
    """Batches of augmented crops at native scale with their target maps.

    A batch depends on nothing but the seed and its number: see `nuclei_train.batches.shuffled`.

    Parameters
    ----------
    images : sequence of (H, W, 3) ndarray of uint8
        Percentile-normalised, 255 for 1.
    labels : sequence of (H, W) ndarray of int32
    shares : (N,) ndarray of float
        With which probability each image is drawn.
    batch_size, crop_px : int
    seed : int
    first_batch : int
        The number of the stream's first batch.
    augmentation : Augmentation
    eased_batch : int, optional
        The number of the batch from which on the augmentation is `Augmentation.eased`; without it none is.
    answers : sequence of (H, W, 3) ndarray of uint8, optional
        What a teacher makes of the images, see `nuclei_train.batches.teacher`.
    """

    def __init__(
        self,
        images: Sequence[NDArray[np.uint8]],
        labels: Sequence[Labels],
        shares: NDArray[np.float64],
        *,
        batch_size: int,
        crop_px: int,
        seed: int,
        first_batch: int,
        augmentation: Augmentation,
        eased_batch: int | None = None,
        answers: Sequence[NDArray[np.uint8]] = (),
    ) -> None:
        # Threads, so that crops are cut while the network computes; they keep the batches' order.
        super().__init__(workers=WORKERS)
        self._images, self._labels, self._answers = images, labels, answers
        cumulative = np.cumsum(shares)
        self._cumulative = cumulative / cumulative[-1]  # ends at 1 exactly: no random number lies beyond
        self._batch_size, self._crop_px = batch_size, crop_px
        self._seed, self._first_batch = seed, first_batch
        self._eased_batch = eased_batch
        self._augmentation, self._eased = augmentation, augmentation.eased()

    @property
    def num_batches(self) -> None:
        """None: the stream has no end."""
        return None

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return images (N, size, size, 3) and maps (N, size, size, 6): `targets.TARGETS`, then 1 where they count."""
        batch = self._first_batch + index
        rng = np.random.default_rng([self._seed, batch])
        is_eased = self._eased_batch is not None and batch >= self._eased_batch
        augmentation = self._eased if is_eased else self._augmentation
        images, maps = [], []
        for _ in range(self._batch_size):
            chosen = int(np.searchsorted(self._cumulative, rng.random(), side="right"))
            layers = [self._images[chosen], *([self._answers[chosen]] if self._answers else [])]
            # One array, so that the answer is moved, turned and scaled as its image is.
            crop, labels, valid = random_crop(
                rng, np.concatenate(layers, axis=-1), self._labels[chosen], self._crop_px, augmentation
            )
            image, answer = crop[..., :CHANNELS], crop[..., CHANNELS:]
            images.append(random_appearance(rng, image, augmentation))
            target = target_maps(labels, valid)
            if self._answers:
                target[..., : answer.shape[-1]] += SHARE * (answer - target[..., : answer.shape[-1]])
            maps.append(np.concatenate([target, valid[..., np.newaxis]], axis=-1, dtype=np.float32))
        return np.stack(images), np.stack(maps)
