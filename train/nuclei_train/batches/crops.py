"""Images and labels -> an endless, reproducible stream of augmented crops."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.arrays import Labels
from nuclei_runtime.steps.preprocess import CHANNELS
from nuclei_train.batches.augment import Augmentation, random_appearance, random_crop
from nuclei_train.batches.targets import target_maps
from nuclei_train.batches.teacher import Answer

WORKERS = 2
"""With fewer, Keras would cut the crops between the steps, not in parallel with them."""


class RandomCrops(keras.utils.PyDataset):  # type: ignore[misc]
    """Batches of augmented crops at native scale with their target maps.

    A batch depends only on the seed and its number: see `nuclei_train.batches.shuffled`.

    Parameters
    ----------
    images : sequence of (H, W, 3) ndarray of uint8
        Percentile-normalised; see `nuclei_runtime.arrays.to_uint8`.
    labels : sequence of (H, W) ndarray of int32
    shares : (N,) ndarray of float
        The probability with which each image is drawn.
    batch_size, crop_px : int
    seed : int
    first_batch : int
        The number of the stream's first batch.
    augmentation : Augmentation
    eased_batch : int, optional
        The number of the first batch with `Augmentation.eased`; without it no batch is eased.
    answers : sequence of Answer, optional
        A teacher's predictions for the images.
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
        answers: Sequence[Answer] = (),
    ) -> None:
        # Threads cut the crops while the network computes; the order of the batches stays the same.
        super().__init__(workers=WORKERS)
        self._images, self._labels, self._answers = images, labels, answers
        cumulative = np.cumsum(shares)
        self._cumulative = cumulative / cumulative[-1]  # ends at exactly 1: no random number exceeds it
        self._batch_size, self._crop_px = batch_size, crop_px
        self._seed, self._first_batch = seed, first_batch
        self._eased_batch = eased_batch
        self._augmentation, self._eased = augmentation, augmentation.eased()

    @property
    def num_batches(self) -> None:
        """None, because the stream is endless."""
        return None

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return images (N, size, size, 3) and maps (N, size, size, 6).

        The maps are `targets.TARGETS`, then 1 for pixels that count.
        """
        batch = self._first_batch + index
        rng = np.random.default_rng([self._seed, batch])
        is_eased = self._eased_batch is not None and batch >= self._eased_batch
        augmentation = self._eased if is_eased else self._augmentation
        images, maps = [], []
        for _ in range(self._batch_size):
            chosen = int(np.searchsorted(self._cumulative, rng.random(), side="right"))
            layers = [self._images[chosen], *([self._answers[chosen].maps] if self._answers else [])]
            # In one array, so that the answer is moved, rotated and scaled with its image.
            crop, labels, valid = random_crop(
                rng, np.concatenate(layers, axis=-1), self._labels[chosen], self._crop_px, augmentation
            )
            image, answer = crop[..., :CHANNELS], crop[..., CHANNELS:]
            images.append(random_appearance(rng, image, labels, augmentation))
            target = target_maps(labels, valid)
            if self._answers:
                taught = target[..., : answer.shape[-1]]
                taught += self._answers[chosen].share * (answer - taught)
            maps.append(np.concatenate([target, valid[..., np.newaxis]], axis=-1, dtype=np.float32))
        return np.stack(images), np.stack(maps)
