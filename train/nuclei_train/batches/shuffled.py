"""Arrays -> an endless, reproducible stream of shuffled batches."""

from __future__ import annotations

import keras
import numpy as np
from numpy.typing import NDArray


class ShuffledBatches(keras.utils.PyDataset):  # type: ignore[misc]
    """Batches of images and foreground, shuffled in each epoch.

    A batch depends only on the seed and its number, so a resumed training sees the same batches as an uninterrupted
    one, however far ahead Keras has fetched. The stream has no length: pass `steps_per_epoch` to `fit`.

    Parameters
    ----------
    images : (N, H, W, C) ndarray of float32
    foreground : (N, H, W, 1) ndarray of bool
    batch_size : int
    seed : int
    first_epoch : int
        The epoch that batch 0 belongs to.
    """

    def __init__(
        self,
        images: NDArray[np.float32],
        foreground: NDArray[np.bool_],
        *,
        batch_size: int,
        seed: int,
        first_epoch: int,
    ) -> None:
        super().__init__()
        self._images, self._foreground = images, foreground
        self._batch_size, self._seed, self._first_epoch = batch_size, seed, first_epoch

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches per epoch; the last one may be smaller."""
        return -(-len(self._images) // self._batch_size)

    @property
    def num_batches(self) -> None:
        """None, because the stream is endless."""
        return None

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        epoch, step = divmod(index, self.steps_per_epoch)
        order = np.random.default_rng([self._seed, self._first_epoch + epoch]).permutation(len(self._images))
        chosen = order[step * self._batch_size : (step + 1) * self._batch_size]
        return self._images[chosen], self._foreground[chosen].astype(np.float32)
